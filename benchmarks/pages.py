"""Put what a benchmark found into the pages that show it, each part between its two comments."""

import platform
from pathlib import Path

from fewlabels import paths

STATISTICS = paths.ROOT / "chapters" / "protocol-and-statistics.qmd"
COMPUTE = paths.ROOT / "chapters" / "compute-and-numbers.qmd"
README = Path(__file__).with_name("README.md")


def put(label: str, text: str, *pages: Path) -> None:
    """Replace what stands between ``<!-- label -->`` and ``<!-- end of label -->``."""
    for page in pages:
        begin, end = f"<!-- {label} -->", f"<!-- end of {label} -->"
        before, rest = page.read_text(encoding="utf-8").split(begin)
        page.write_text(f"{before}{begin}\n\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def processor() -> str:
    """The model's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
