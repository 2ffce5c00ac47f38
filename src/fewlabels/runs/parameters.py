"""A chapter's parameters: a dataclass whose fields say what they may be.

The values stand once, in the notebook's cell tagged ``parameters``; a chapter declares here what
each of them may be, and the cell below makes an instance of them: ``Settings.of(globals())``.
"""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from fewlabels import config
from fewlabels.errors import UserError


class Range(NamedTuple):
    """Whole numbers from ``low`` to ``high``, both included; None: no upper end."""

    low: int
    high: int | None = None


class Real(NamedTuple):
    """Finite numbers above ``low``, up to ``high`` (None: no upper end)."""

    low: float
    high: float | None = None


class Items(NamedTuple):
    """Lists of at least ``low`` values; ``alike``: which may repeat, as the layers of a network."""

    low: int = 1
    alike: bool = False


class Own(NamedTuple):
    """Paths of a reader's own images, see `fewlabels.data.own`."""

    digits: bool = False
    """Ten classes of grey images of 28 x 28 pixels, as chapters on digits need them."""


OwnImages = Annotated[str, Own()]
"""The path of a reader's own images."""
OwnDigits = Annotated[str, Own(digits=True)]
"""The same, like MNIST's: ten classes, grey, 28 x 28 pixels."""
MOST, MOST_REPEATED = 1_000_000, 1000
"""More than anybody runs: planning still ends, and seeds stay apart from those of the choices."""
Count = Annotated[int, Range(0, MOST)]
"""How many of something, or how long."""
Some = Annotated[int, Range(1, MOST)]
"""The same, and not nothing."""
Repeats = Annotated[int, Range(0, MOST_REPEATED)]
"""Seeds, draws or splits."""
SomeRepeats = Annotated[int, Range(1, MOST_REPEATED)]
"""The same, at least one."""
Positive = Annotated[float, Real(0)]
"""A finite number above zero."""
Share = Annotated[float, Real(0, 1)]
"""A number above 0 and at most 1."""


PLAIN = (bool, int, float, str, list)
"""Kinds of values that parameters have."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A dataclass that refuses values that its fields' types do not allow."""

    def __post_init__(self):
        for key, hint in get_type_hints(type(self), include_extras=True).items():
            if get_origin(hint) is not typing.ClassVar:
                check(key, getattr(self, key), hint)

    @classmethod
    def of(cls, names: Mapping[str, Any], **changes: Any) -> Self:
        """The parameters among ``names``, such as a notebook's ``globals()``.

        UserError where one is missing, and where a value stands there that is no parameter: plain
        papermill only warns of a name that it does not know.
        """
        own = [item.name for item in fields(cls)]
        given = [name for name, value in names.items() if isinstance(value, PLAIN)]
        # Constants and what IPython adds are named otherwise.
        if more := [name for name in given if re.match("[a-z]", name) and name not in own]:
            raise UserError(f"there is no parameter {more[0]!r}: choose from {', '.join(own)}.")
        if missing := [item.name for item in fields(cls) if item.name not in {*names, *changes}]:
            raise UserError(f"the parameters cell lacks {', '.join(missing)}.")
        given = {item.name: names[item.name] for item in fields(cls) if item.name in names}
        return cls(**given | changes)


@dataclass(frozen=True, kw_only=True)
class Parameters(Checked):
    """What every chapter that computes runs can be told."""

    store: Literal["results", "cache"]
    """Where the records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """What computes the runs that are missing; auto takes a graphics card where there is one."""
    precision: Literal["32-true", "bf16-mixed"]
    """Number format while training."""
    workers: Annotated[int, Range(0, 256)]
    """Runs at once; 0 means one per CPU core, on a card as many as fit and bring more."""


def check(key: str, value: Any, hint: Any) -> None:
    """Refuse a value that a type hint does not allow, with its name and what is allowed.

    Hints: bool, int, float, str, None, ``Literal``, ``list[...]`` of different values (see `Items`
    for others), unions, and numbers with a `Range` or a `Real`.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        limit = hint.__metadata__[0]
        if isinstance(limit, Range):
            config.whole(key, value, limit.low, limit.high)
        elif isinstance(limit, Items):
            _items(key, value, hint.__origin__, limit)
        elif isinstance(limit, Own):
            _own(key, value, limit)
        else:
            _real(key, value, limit)
    elif origin is Literal:
        config.one_of(key, value, get_args(hint))
    elif origin is list:
        _items(key, value, hint, Items(low=0))
    elif origin in (typing.Union, types.UnionType):
        _any(key, value, get_args(hint))
    elif hint is float:
        config.finite(key, value)
    elif hint is type(None):
        _of_type(key, value, hint, "none")
    else:
        _of_type(key, value, hint, WORDS[hint])


WORDS = {bool: "true or false", int: "a whole number", str: "a text"}


def _of_type(key: str, value: Any, kind: type, allowed: str) -> None:
    # A bool is an int in Python, but nobody who writes true means one.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{key} is {value!r}; allowed: {allowed}")


def _any(key: str, value: Any, hints: tuple) -> None:
    refusals = []
    for hint in hints:
        try:
            return check(key, value, hint)
        except UserError as refusal:
            refusals.append(str(refusal).split("allowed: ")[-1])
    raise UserError(f"{key} is {value!r}; allowed: {' or '.join(refusals)}")


def _items(key: str, value: Any, hint: Any, limit: Items) -> None:
    if not limit.alike:
        config.distinct(key, value)
    if not isinstance(value, list) or len(value) < limit.low:
        raise UserError(f"{key} is {value!r}; allowed: a list of {limit.low} or more")
    for item in value:
        check(key, item, get_args(hint)[0])


def _own(key: str, value: Any, limit: Own) -> None:
    # What reads images imports torch; the command's help does without.
    from fewlabels import data
    from fewlabels.data import own

    _of_type(key, value, str, WORDS[str])
    if not own.is_path(value):
        raise UserError(f"{key} is {value!r}; allowed: the path of your own images")
    if limit.digits:
        images = data.load(value)
        if len(images.classes) != 10 or images.train.images.shape[1:] != (1, 28, 28):
            raise UserError(
                f"{key} is {value!r}; allowed: ten classes of grey images of 28 x 28 pixels"
            )


def _real(key: str, value: Any, limit: Real) -> None:
    above = f"a number above {limit.low:g}"
    allowed = above if limit.high is None else f"{above} and at most {limit.high:g}"
    config.finite(key, value, allowed)
    if value <= limit.low or (limit.high is not None and value > limit.high):
        raise UserError(f"{key} is {value!r}; allowed: {allowed}")
