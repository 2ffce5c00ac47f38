"""Put what a benchmark found into the pages that show it, each part between its two comments."""

from pathlib import Path

from fewlabels import paths
from fewlabels.book import inserted
from fewlabels.book.replay import processor

__all__ = ["COMPUTE", "README", "STATISTICS", "processor", "put"]
STATISTICS = paths.ROOT / "chapters" / "protocol-and-statistics.qmd"
COMPUTE = paths.ROOT / "chapters" / "compute-and-numbers.qmd"
README = Path(__file__).with_name("README.md")


def put(label: str, text: str, *pages: Path) -> None:
    """Replace what stands between ``<!-- label -->`` and ``<!-- end of label -->``."""
    for page in pages:
        inserted.put(label, text, page)
