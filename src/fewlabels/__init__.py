"""Learning with few labels: a replication report that runs, and a library for your own images.

    import fewlabels

    encoder = fewlabels.pretrain(images, method="simclr")             # images: uint8 [N, H, W, 3]
    model = fewlabels.probe(fewlabels.features(encoder, few), labels)
    classes = model.predict(fewlabels.features(encoder, others))

See `fewlabels.api` for these, `fewlabels.load`, `fewlabels.compare` and `fewlabels.advise`.
"""

import getpass
import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

try:
    getpass.getuser()
except (OSError, KeyError):
    # torch asks for a name while it is imported, and a container's user may have no account.
    os.environ["LOGNAME"] = "nobody"
__all__ = ["advise", "compare", "features", "load", "pretrain", "probe"]


def __getattr__(name: str) -> Any:
    # What imports torch is imported when it is asked for: rendering the book does without.
    if name in __all__:
        return getattr(import_module("fewlabels.api"), name)
    if name in ("api", "data", "evidence"):
        return import_module(f"fewlabels.{name}")
    raise AttributeError(f"module 'fewlabels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
