"""A toy book: two chapters, their parameters and records, in a folder of its own."""

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import yaml

from fewlabels import paths
from fewlabels.errors import UserError

REPOSITORY = paths.ROOT
# As many tests run at once as there are cores: more threads in each would only get in the way.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items):
    """What ``--dist loadgroup`` leaves together: a file, whose tests share fixtures, unless they
    name groups of their own."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


FIRST = [
    "# Toy measures {#sec-toy}\n\nAfter @wilson1927. See @fig-line, @fig-pair-2, @tbl-hand"
    " and [-@tbl-frame], @eq-mean, @sec-method and @sec-other.\n\n"
    "$$\\bar x = \\tfrac1n \\sum_i x_i$$ {#eq-mean}",
    "epochs = 2\ndataset = 'toy'\nrate = 0.01\nsizes = [1, 2]",
    "import matplotlib.pyplot as plt",
    "#| label: fig-line\n#| fig-cap: A *line* of $x$ [@wilson1927].\n"
    "#| fig-alt: A rising line\n"
    "fig, ax = plt.subplots(figsize=(3, 2))\nax.plot([1, epochs])\nplt.close(fig)\nfig",
    "#| label: fig-pair\n#| fig-cap: Two lines\n#| fig-subcap: [up, down]\n#| layout-ncol: 2\n"
    "for end in (1, -1):\n    plt.plot([0, end])\n    plt.show()",
    "## Method {#sec-method}\n\n::: {.callout-note}\n## A claim\nIt holds.\n:::\n\n"
    "::: {.callout-tip collapse=true}\n## More\nFolded.\n:::",
    "#| label: tbl-frame\n#| tbl-cap: A `frame` with a caption\n"
    "import pandas as pd\npd.DataFrame({'a': [1, 2]})",
    "#| echo: false\nfrom IPython.display import Markdown\n"
    "Markdown(f'::: {{#tbl-hand}}\\n\\n| epochs |\\n|--:|\\n| {epochs} |\\n\\nBy hand\\n\\n:::')",
    "#| output: asis\nprint(f'Asis text with {len(sizes)} sizes; @fig-line again.')",
    "#| echo: false\nprint('plain output of', dataset)",
]
SECOND = [
    "# Another chapter {#sec-other}\n\nBack to @fig-line in @sec-toy.",
    "epochs = 1",
    "epochs",
]


def notebook(sources: list[str], parameters: int = 1) -> dict:
    """A notebook whose cells are code unless they begin like prose; one is the parameters'."""
    cells = []
    for number, source in enumerate(sources):
        cell = {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "source": source}
        if source.startswith(("# ", "## ")):
            cell["cell_type"] = "markdown"
        else:
            cell |= {"execution_count": None, "outputs": []}
        if number == parameters:
            cell["metadata"] = {"tags": ["parameters"]}
        cells.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@dataclass(frozen=True)
class Settings:
    epochs: int = 2
    dataset: Literal["toy", "other"] = "toy"
    """Whose images."""
    rate: float = 0.01
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if self.dataset not in ("toy", "other"):
            raise UserError(f"dataset is {self.dataset!r}: choose from toy, other.")


@dataclass(frozen=True)
class ShortSettings:
    epochs: int = 1


def make_toy(root: Path) -> None:
    (root / "chapters").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "styles", root / "styles")
    for name in ("references.bib", "references.qmd", "_quarto-pdf.yml"):
        shutil.copy(REPOSITORY / name, root)
    config = yaml.safe_load((REPOSITORY / "_quarto.yml").read_text())
    chapters = ["chapters/01-toy.ipynb", "chapters/02-other.ipynb"]
    config["book"]["chapters"] = ["index.qmd", *chapters, "references.qmd"]
    config["book"].pop("appendices", None)
    (root / "_quarto.yml").write_text(yaml.safe_dump(config))
    (root / "index.qmd").write_text("# Front {.unnumbered}\n\nBegin with @sec-toy [@holm1979].\n")
    (root / "chapters/01-toy.ipynb").write_text(json.dumps(notebook(FIRST)))
    (root / "chapters/02-other.ipynb").write_text(json.dumps(notebook(SECOND)))
    for profile in ("quick", "smoke"):
        folder = root / "params" / profile
        folder.mkdir(parents=True)
        (folder / "toy.yaml").write_text(yaml.safe_dump({"epochs": 1}))
        (folder / "other.yaml").write_text("{}\n")


def move_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fewlabels.paths` and `fewlabels.chapters` as if the toy book were the repository."""
    from fewlabels import chapters

    for name, folder in {
        "ROOT": "",
        "CHAPTERS": "chapters",
        "PARAMS": "params",
        "RESULTS": "results",
        "FREEZE": "_freeze",
        "BOOK": "_book",
    }.items():
        monkeypatch.setattr(paths, name, root / folder)
    monkeypatch.setenv("FEWLABELS_CACHE", str(root.parent / "cache"))
    known = {
        "toy": SimpleNamespace(Settings=Settings, plan=plan, store=toy_store),
        "other": SimpleNamespace(Settings=ShortSettings, plan=lambda settings: [], store=toy_store),
    }
    files = {"toy": "01-toy.ipynb", "other": "02-other.ipynb"}

    def load(name: str) -> SimpleNamespace:
        if name not in known:
            raise UserError(f"there is no chapter {name!r}; there are: {', '.join(known)}")
        return known[name]

    monkeypatch.setattr(chapters, "names", lambda: list(known))
    monkeypatch.setattr(chapters, "load", load)
    monkeypatch.setattr(chapters, "notebook", lambda n: load(n) and root / "chapters" / files[n])


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of a toy book: the chapter ``toy`` plans ``epochs`` runs, ``other`` none."""
    root = tmp_path / "book"
    make_toy(root)
    move_in(root, monkeypatch)
    return root


def plan(settings: Settings) -> list:
    return [toy_run(draw) for draw in range(settings.epochs)]


def toy_store(settings):
    from fewlabels.runs.records import Store

    return Store(paths.RESULTS / "toy")


def toy_run(draw: int, labels: int = 100):
    """An experiment whose accuracy is 0.5 + 0.1 * draw."""
    from fewlabels.runs.records import Experiment, Outcome

    @dataclass(frozen=True)
    class Toy(Experiment, kind="toy", recipe=1):
        draw: int = 0
        labels: int = 100

        def checksums(self):
            return {"toy": "0" * 32}

        def cell(self):
            return {
                "dataset": "toy",
                "labels": self.labels,
                "method": "guess",
                "protocol": "report",
            }

        def execute(self, fabric, store):
            return Outcome(metrics={"accuracy": 0.5 + 0.1 * self.draw})

    return Toy("toy", draw, labels)


@pytest.fixture
def record(toy: Path):
    """Computes toy runs and returns the paths of their records."""
    from lightning.fabric import Fabric

    from fewlabels.runs.records import Store

    def compute(*runs) -> list[Path]:
        store, fabric = Store(paths.RESULTS / "toy"), Fabric(accelerator="cpu")
        for run in runs:
            store.run(run, fabric)
        return [store.path(run) for run in runs]

    return compute


@pytest.fixture(scope="session")
def fabric():
    from lightning.fabric import Fabric

    return Fabric(accelerator="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Shared by a module's tests, so that what many runs start from is computed once."""
    from fewlabels.runs.records import Store

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABELS_CACHE", str(folder / "cache"))
        yield Store(folder / "results")


@pytest.fixture(scope="module")
def one_thread():
    """As in a sweep: many small operations only get in each other's way on several threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def only(images, *forget):
    """`data.load` gives these images; what was kept of others goes by the functions ``forget``."""
    from fewlabels import data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda name: images)
        for clear in forget:
            clear()
        yield images
    for clear in forget:
        clear()


def first(images, train: int, test: int):
    """A data set's first training and test images alone."""
    from dataclasses import replace

    parts = {"train": images.train, "test": images.test}
    taken = {
        name: type(part)(part.images[:count], part.labels[:count])
        for (name, part), count in zip(parts.items(), (train, test), strict=True)
    }
    return replace(images, **taken)
