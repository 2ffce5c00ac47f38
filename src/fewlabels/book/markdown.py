"""A notebook as markdown, in the form that Quarto freezes chapters in.

The preview reads frozen chapters; what is not frozen (a reader's own run, a chapter that is still
being written) takes this way to the same page.
"""

import base64
import re
from pathlib import Path
from typing import Any

import yaml

from fewlabels.chapters.profiles import cells

# The form of an output that a page shows best comes first.
IMAGES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
MIME_TYPES = ("text/markdown", "text/html", *IMAGES, "text/plain")


def from_notebook(notebook: Path, figures: Path) -> str:
    """Markdown of all cells with the outputs they hold; images are written into ``figures``."""
    figures.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, cell in enumerate(cells(notebook), 1):
        if cell["cell_type"] == "code":
            # A file's name may hold what is markup in a page.
            stem = re.sub(r"[^\w-]", "-", notebook.stem)
            parts.append(_code(cell, figures / f"{stem}-{number}"))
        else:
            parts.append(cell["source"])
    return "\n\n".join(parts)


def split_options(source: str) -> tuple[dict[str, Any], str]:
    """The ``#|`` options at the head of a code cell, and the code below them."""
    lines = source.split("\n")
    head = 0
    while head < len(lines) and lines[head].startswith("#|"):
        head += 1
    options = yaml.safe_load("\n".join(line[2:] for line in lines[:head])) or {}
    return options, "\n".join(lines[head:]).strip("\n")


def _code(cell: dict[str, Any], stem: Path) -> str:
    options, code = split_options(cell["source"])
    if options.get("include") is False:
        return ""
    parts = []
    if code and options.get("echo") is not False:
        parts.append(_fence(code, "{.python .cell-code}"))
    outputs = [] if options.get("output") is False else cell["outputs"]
    streams = _printed(outputs, "stdout")
    if options.get("warning") is not False:
        streams += _printed(outputs, "stderr")
    if options.get("output") == "asis":
        # Its headings and divs belong to the chapter, so that it stands outside the cell's div.
        return "\n\n".join(parts + streams)
    results = [output["data"] for output in outputs if "data" in output]
    errors = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
    parts += [_fence(text) for text in streams]
    parts += _results(results, options, stem)
    parts += [_fence(text) for text in errors]
    if not outputs and options.get("label", "").startswith(("fig-", "tbl-")):
        return _unexecuted(parts, options)
    return _div(parts, options) if parts else ""


def _unexecuted(parts: list[str], options: dict[str, Any]) -> str:
    """A place for a figure or table not made yet, so that references to it have a number."""
    caption = options.get("fig-cap", options.get("tbl-cap", ""))
    return "\n\n".join([f"::: {{#{options['label']}}}", *parts, "*Not run yet.*", caption, ":::"])


def _printed(outputs: list[dict[str, Any]], stream: str) -> list[str]:
    """What a cell printed to a stream, as one text; none where it printed nothing."""
    text = "".join("".join(o["text"]) for o in outputs if o.get("name") == stream)
    # A carriage return overwrites its line, as progress bars do.
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.rstrip("\n").split("\n")]
    return ["\n".join(lines)] if text.strip() else []


def _results(results: list[dict[str, Any]], options: dict[str, Any], stem: Path) -> list[str]:
    parts = []
    for number, data in enumerate(results, 1):
        mime = next((mime for mime in MIME_TYPES if mime in data), None)
        content = "" if mime is None else "".join(data[mime])
        if mime in IMAGES:
            file = stem.with_name(f"{stem.name}-{number}.{IMAGES[mime]}")
            is_text = mime == "image/svg+xml"
            file.write_bytes(content.encode() if is_text else base64.b64decode(content))
            parts.append(_image(file.name, options, number))
        elif mime == "text/html":
            parts.append(_fence(content, "{=html}"))
        elif mime == "text/markdown":
            parts.append(content)
        elif mime == "text/plain":
            parts.append(_fence(content))
    if "fig-subcap" in options:
        parts.append(options.get("fig-cap", ""))
    return parts


def _image(file: str, options: dict[str, Any], number: int) -> str:
    label, caption = options.get("label", ""), options.get("fig-cap", "")
    if "fig-subcap" in options:
        label, caption = f"{label}-{number}", options["fig-subcap"][number - 1]
    attributes = [f"#{label}"] if label.startswith("fig-") else []
    if "fig-alt" in options:
        attributes.append(f"fig-alt={_quoted(options['fig-alt'])}")
    return f"![{caption}]({file}){{{' '.join(attributes)}}}"


def _div(parts: list[str], options: dict[str, Any]) -> str:
    label = options.get("label", "")
    attributes = [".cell"]
    # The label of a single figure is the figure's own.
    if label.startswith("tbl-") or "fig-subcap" in options:
        attributes.insert(0, f"#{label}")
    for key in ("tbl-cap", "layout-ncol"):
        if key in options:
            attributes.append(f"{key}={_quoted(options[key])}")
    return f"::: {{{' '.join(attributes)}}}\n" + "\n\n".join(parts) + "\n:::"


def _quoted(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _fence(content: str, attributes: str = "") -> str:
    """As text; the fence is longer than any row of backticks in it, which would end it."""
    longest = max(map(len, re.findall("`+", content)), default=0)
    fence = "`" * max(7, longest + 1)
    return f"{fence} {attributes}\n{content}\n{fence}"
