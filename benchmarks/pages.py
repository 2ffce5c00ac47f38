"""Put what a benchmark found into the pages that show it, each part between its two comments."""

import platform
from pathlib import Path
from types import ModuleType

import torch

from fewlabels import config, paths
from fewlabels.book import inserted
from fewlabels.book.replay import processor

__all__ = ["COMPUTE", "CORES", "README", "STATISTICS", "machine", "processor", "put"]
CORES = config.cores()
STATISTICS = paths.ROOT / "chapters" / "protocol-and-statistics.qmd"
COMPUTE = paths.ROOT / "chapters" / "compute-and-numbers.qmd"
README = Path(__file__).with_name("README.md")


def put(label: str, text: str, *pages: Path) -> None:
    """Replace what stands between ``<!-- label -->`` and ``<!-- end of label -->``."""
    for page in pages:
        inserted.put(label, text, page)


def machine(device: torch.device, workers: int, library: ModuleType) -> str:
    """The line under a table: on what it was measured, with so many workers of a DataLoader, and
    the version of the library beside torch."""
    card = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    return (
        f"{processor()}, {CORES} cores, {torch.get_num_threads()} threads, {workers} workers, "
        f"{card}; torch {torch.__version__}, {library.__name__} {library.__version__}, "
        f"Python {platform.python_version()}."
    )
