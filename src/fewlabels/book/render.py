"""`make book`: the book with Quarto where it can be had, else its plain preview.

Imports nothing beyond what requirements-book.txt installs.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from fewlabels import paths
from fewlabels.book import notebooks, preview

QUARTO = "quarto-cli==1.9.38"
PREVIEW = "_preview"
OUT = 5.0
"""Points by which a box may stick out without a reader noticing."""


def build() -> list[Path]:
    """Render the book and return the pages to open: HTML and PDF, or the preview's index.

    Whatever cannot be had (Quarto, LaTeX, a frozen chapter) is said in one line each.
    """
    if unfrozen := [path.name for path in _chapters() if not notebooks.frozen(path).exists()]:
        print(f"Not frozen yet: {', '.join(unfrozen)} (`fewlabels freeze`). Plain preview instead.")
        return [plain()]
    quarto = find_quarto() or install_quarto()
    if quarto is None:
        return [plain()]
    engine = find_latex()
    if engine is None:
        print("No PDF: LaTeX is missing. `quarto install tinytex` installs a small one.")
    elif _render(quarto, "--profile", "pdf", *_latex(engine), *_date()):
        print("".join(f"In the PDF: {fault}\n" for fault in left_by_latex()), end="")
        return [paths.BOOK / "index.html", *paths.BOOK.glob("*.pdf")]
    else:
        print("No PDF: LaTeX failed (above).")
    if _render(quarto, "--to", "html", *_date()):
        return [paths.BOOK / "index.html"]
    print("Quarto failed (above). Plain preview instead.")
    return [plain()]


def plain() -> Path:
    """Write the preview and return its index page."""
    index, missing = preview.book(paths.ROOT / PREVIEW)
    for reference in missing:
        print(f"Unresolved reference {reference}")
    return index


def find_quarto() -> Path | None:
    """Quarto from PATH, else from this environment."""
    beside = Path(sys.executable).parent / "quarto"
    if found := shutil.which("quarto"):
        return Path(found)
    return beside if beside.exists() else None


def install_quarto() -> Path | None:
    """Quarto, installed into this environment; None where that fails, as on a closed network."""
    print(f"Quarto is not on PATH; trying pip install {QUARTO} ... ", end="", flush=True)
    # The package downloads Quarto itself while it installs.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", QUARTO]
    subprocess.run(command, capture_output=True, check=False)
    quarto = find_quarto()
    print("done." if quarto else "failed. Plain preview instead.")
    return quarto


def find_latex() -> str | None:
    """The engine for the PDF; Quarto finds its own TinyTeX outside PATH."""
    for engine in ("pdflatex", "lualatex", "xelatex"):
        if shutil.which(engine):
            return engine
    homes = (Path.home() / ".TinyTeX", Path.home() / "Library" / "TinyTeX")
    return "pdflatex" if any(home.exists() for home in homes) else None


def left_by_latex() -> list[str]:
    """The faults in the log that LaTeX left in the book's folder, which is cleared of its files."""
    log = paths.ROOT / "index.log"
    found = latex_faults(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
    for suffix in (".aux", ".log", ".out", ".toc"):
        log.with_suffix(suffix).unlink(missing_ok=True)
    return found


def latex_faults(log: str) -> list[str]:
    """What a reader of the PDF would see of a LaTeX log: boxes that stick out by more than `OUT`
    points, and glyphs that the font lacks."""
    lines = log.splitlines()
    boxes = [line for line in lines if line.startswith("Overfull")]
    wide = [line for line in boxes if float(re.search(r"([\d.]+)pt too", line)[1]) > OUT]
    return wide + [line for line in lines if line.startswith("Missing character")]


def _latex(engine: str) -> list[str]:
    """The engine, and that its log stays."""
    return [f"--metadata=pdf-engine:{engine}", "--metadata=latex-clean:false"]


def _date() -> list[str]:
    """The date for the title page, of the commit that is rendered; nothing outside of Git."""
    git = ["git", "-C", paths.ROOT, "log", "-1", "--format=%cs"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return []
    return [f"--metadata=date:{done.stdout.strip()}"] if done.stdout.strip() else []


def _chapters() -> list[Path]:
    return [path for path, _ in preview.sources() if path.suffix == ".ipynb"]


def _render(quarto: Path, *options: str) -> bool:
    print("Rendering with Quarto ...", flush=True)
    done = subprocess.run(
        [quarto, "render", *options],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    warnings = [line for line in log if line.startswith(("WARN:", "[WARNING]"))]
    shown = log[-30:] if done.returncode else warnings
    print("".join(f"{line}\n" for line in shown), end="")
    return done.returncode == 0
