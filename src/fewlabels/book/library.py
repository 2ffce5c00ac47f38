"""The page of the library, made from the signatures and docstrings of its public functions."""

import inspect
import re
import textwrap
from collections.abc import Iterator

import fewlabels

SECTIONS = ("Args", "Returns", "Raises")


def functions() -> str:
    """A section per name in `fewlabels.__all__`."""
    return "\n".join(entry(name) for name in fewlabels.__all__)


def entry(name: str) -> str:
    """One function as Markdown: its call, what it does, takes, returns and raises."""
    function = getattr(fewlabels, name)
    text, sections = parsed(inspect.getdoc(function))
    lines = [
        f"## {name} {{#sec-library-{name}}}",
        "",
        "```python",
        _call(name, function),
        "```",
        "",
    ]
    lines += [_references(text), ""]
    for section in SECTIONS:
        if found := sections.get(section):
            items = [*_items(section, found)]
            lines += [f"**{section}**", "", *(_references(each) for each in items), ""]
    return "\n".join(lines)


def parsed(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's prose, and its sections by name, each without its indentation."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):$", doc, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return parts[0].strip(), {name: inspect.cleandoc(text).strip() for name, text in pairs}


def _call(name: str, function) -> str:
    """The call with its defaults, without types: the text has shapes and units."""
    given = inspect.signature(function).parameters.values()
    short = [each.replace(annotation=inspect.Parameter.empty) for each in given]
    return textwrap.fill(
        f"fewlabels.{name}{inspect.Signature(short)}", 80, subsequent_indent=" " * 4
    )


def _items(section: str, text: str) -> Iterator[str]:
    """Lines of a list where a section has names, else its paragraph."""
    named = re.split(r"^(?=\w+: )", text, flags=re.MULTILINE)
    if section == "Returns" or named[0].strip():
        yield " ".join(text.split())
        return
    for each in named[1:]:
        name, _, meaning = each.partition(": ")
        yield f"- `{name}`: {' '.join(meaning.split())}"


def _references(text: str) -> str:
    """reStructuredText's double backticks and paragraphs as Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)
