"""The chapters by name: each a notebook in ``chapters/`` and a module here.

A chapter's module has ``NAME``, ``Settings`` (the notebook's parameters, checked),
``plan(settings)`` (every run the chapter needs) and ``store(settings)`` (where their records are: a
chapter may plan another one's runs and share its store). Other files that it reads are named by
``inputs(settings)``, and ``beyond(settings)`` plans what a larger budget would add. What is shown
is the notebook's to ask.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fewlabels import paths
from fewlabels.errors import UserError

NOTEBOOKS = {
    "rotnet-mnist": "01-rotnet-mnist.ipynb",
    "rotation-equivariance": "02-rotation-equivariance.ipynb",
    "chest-xray-transfer": "03-chest-xray-transfer.ipynb",
    "few-data-caltech": "04-few-data-caltech.ipynb",
    "ssl-medmnist": "05-ssl-medmnist.ipynb",
    "fusion": "06-fusion.ipynb",
    "autoencoders-vae": "07-autoencoders-vae.ipynb",
    "replication-ledger": "08-replication-ledger.ipynb",
}


def names() -> list[str]:
    """Chapter names in the order of the book."""
    return list(NOTEBOOKS)


def notebook(name: str) -> Path:
    """Path of the chapter's notebook. Raises UserError for an unknown name."""
    _known(name)
    return paths.CHAPTERS / NOTEBOOKS[name]


def load(name: str) -> ModuleType:
    """The chapter's module. Raises UserError for an unknown name."""
    _known(name)
    return import_module(f"{__name__}.{name.replace('-', '_')}")


def planned(name: str, settings: Any) -> list[Any]:
    """Every run of a chapter, in the order in which they are made: its plan and, where it has such,
    what is ``beyond`` it at a larger budget."""
    chapter = load(name)
    return [*chapter.plan(settings), *getattr(chapter, "beyond", lambda settings: [])(settings)]


def _known(name: str) -> None:
    if name not in NOTEBOOKS:
        raise UserError(f"there is no chapter {name!r}; there are: {', '.join(NOTEBOOKS)}")
