"""What a chapter's notebook says: its cells, and its parameters in every profile."""

import ast
import contextlib
import dataclasses
import inspect
import json
import re
import textwrap
import types
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fewlabels import chapters, paths
from fewlabels.errors import UserError
from fewlabels.runs.parameters import Own, Real

PROFILES = ("full", "quick", "minute", "smoke")
DATA = ("dataset", "blood", "derma")
"""Parameters that name a data set, or are the path of a reader's own images."""


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of an .ipynb file, each with its ``source`` as one string."""
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found]


def tags(cell: dict[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def defaults(notebook: Path) -> dict[str, Any]:
    """Parameter -> default, from the cell tagged ``parameters``.

    UserError where there is no such cell, or where it holds more than ``name = literal`` lines.
    """
    tagged = [cell["source"] for cell in cells(notebook) if "parameters" in tags(cell)]
    if len(tagged) != 1:
        raise UserError(
            f"{notebook.name} has {len(tagged)} cells tagged `parameters`: exactly one is needed, "
            "with the tag in the cell's metadata."
        )
    found = {}
    for statement in ast.parse(tagged[0]).body:
        try:
            (target,) = statement.targets
            found[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise UserError(
                f"{notebook.name}: `{ast.unparse(statement)}` in the parameters cell is not of the "
                "form `name = literal`; derived values belong in the next cell."
            ) from None
    return found


def told(settings: type) -> dict[str, list[str]]:
    """Parameter -> what it may be, in words, and the first sentence of what it means.

    From the type hints and docstrings of a chapter's ``Settings``.
    """
    meant = meanings(settings)
    hints = typing.get_type_hints(settings, include_extras=True)
    return {name: [_in_words(hint), meant.get(name, "")] for name, hint in hints.items()}


def meanings(settings: type) -> dict[str, str]:
    """Parameter -> the first sentence of the text below it, of the class and those it builds on."""
    found = {}
    for cls in reversed(settings.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                words = " ".join(text.value.value.split())
                found[field.target.id] = re.split(r"(?<=[.:;]) ", words)[0].rstrip(".:;")
    return found


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        if isinstance(hint.__metadata__[0], Own):
            return "path of your own images"
        limit, inside = hint.__metadata__[0], hint.__origin__
        if inside not in (int, float):
            return _in_words(inside)
        above = "above " * isinstance(limit, Real)
        end = "or more" if limit.high is None else f"to {limit.high:,}"
        return f"{'whole number' if inside is int else 'number'}, {above}{limit.low:,} {end}"
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(str(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(_in_words(part) for part in typing.get_args(hint))
    if parts := [part for part in typing.get_args(hint) if part is not Ellipsis]:
        return "list of " + ", ".join(dict.fromkeys(_in_words(part) for part in parts))
    words = {bool: "true | false", str: "text", float: "a number", type(None): "none"}
    return words.get(hint, hint.__name__)


def parameters(
    name: str, profile: str = "full", overrides: dict[str, str] | None = None
) -> dict[str, Any]:
    """Every parameter of a chapter in a profile, with ``overrides`` (as typed) on top.

    The notebook's own cell is the profile ``full``; files in ``params/`` say what the
    others change. The chapter's ``Settings`` have accepted the result. UserError lists what
    exists for an unknown chapter, profile or parameter, and says what is allowed for a value of
    another type.
    """
    chapter = chapters.load(name)
    values = defaults(chapters.notebook(name))
    if profile not in PROFILES:
        raise UserError(f"There is no profile {profile!r}: choose from {', '.join(PROFILES)}.")
    stored = {} if profile == "full" else _stored(name, profile)
    for given, where in ((stored, f" ({profile}/{name}.yaml)"), (overrides or {}, "")):
        for key, value in given.items():
            if key not in values:
                known = ", ".join(values)
                raise UserError(f"{name} has no parameter {key!r}{where}: choose from {known}.")
            values[key] = _as_type_of(values[key], value, key)
            if key in DATA:
                values[key] = _placed(values[key])
            _refuse_markup(key, values[key])
    chapter.Settings(**values)
    return values


def _placed(name: str) -> str:
    """A data set's name; the path of own images from the root on."""
    # What reads images imports torch; the command's help does without.
    from fewlabels import data
    from fewlabels.data import own, photographs

    # A known name is no path, even where a folder of that name is beside us.
    known = name in data.DATASETS or name in photographs.SOURCES
    return own.absolute(name) if not known and own.is_path(name) else name


def _stored(name: str, profile: str) -> dict[str, Any]:
    file = paths.PARAMS / profile / f"{name}.yaml"
    if not file.exists():
        raise UserError(f"Chapter {name} has no {profile} profile: add {file}.")
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


class _Typed(yaml.SafeLoader):
    """Numbers as people write them: YAML 1.1 reads 010 as 8, 1:30 as 90 and 1e-3 as text."""

    yaml_implicit_resolvers: typing.ClassVar = {
        first: [(tag, form) for tag, form in pairs if not tag.endswith((":int", ":float"))]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _tag, _form, _read in (
    ("int", r"[-+]?\d+", int),
    ("float", r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?", float),
):
    _name = f"tag:yaml.org,2002:{_tag}"
    _number = re.compile(f"^(?:{_form})$", re.ASCII)
    _Typed.add_implicit_resolver(_name, _number, list("-+.0123456789"))
    _Typed.add_constructor(_name, lambda _, node, read=_read: read(node.value))


def _as_type_of(default: Any, value: Any, key: str) -> Any:
    """``value`` (from YAML, or text from the command line) in the type of the default."""
    wanted = type(default)
    if isinstance(value, str) and wanted is not str:
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.load(value, _Typed)
    if wanted is list and isinstance(value, list | tuple):
        return [_as_type_of(default[0], item, key) if default else item for item in value]
    if wanted is type(value) or default is None:
        return value
    if wanted is float and type(value) is int:
        return float(value)
    raise UserError(
        f"{key} is {value!r}: give a value of type {wanted.__name__}, such as {default!r}."
    )


def _refuse_markup(key: str, value: Any) -> None:
    """Refuse text that a page would take for markup: values stand in captions and tables."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and re.search(r"[<>`\[\]{}|\x00-\x1f\x7f]", each):
            raise UserError(
                f"{key} is {each!r}; not allowed in it: < > ` [ ] {{ }} | and line ends"
            )


def mismatch(name: str) -> str | None:
    """How the parameters cell differs from the fields of ``Settings``; None where it does not."""
    cell = defaults(chapters.notebook(name))
    fields = [field.name for field in dataclasses.fields(chapters.load(name).Settings)]
    if sorted(fields) != sorted(cell):
        odd = sorted(set(fields) ^ set(cell))
        return f"{', '.join(odd)}: not in both the parameters cell and Settings"
    return None


def settings(name: str, profile: str = "full", **changes: Any) -> Any:
    """A chapter's settings in a profile, with some of them changed; ``full`` is the book's."""
    return chapters.load(name).Settings(**parameters(name, profile) | changes)
