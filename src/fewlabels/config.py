"""Checks shared by every config: a refusal names the key and what is allowed."""

import os
from collections.abc import Iterable
from math import isfinite
from typing import Any

from fewlabels.errors import UserError


def one_of(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """Refuse a value that is not among the allowed ones."""
    allowed = list(allowed)
    if value not in allowed:
        raise UserError(f"{key} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def whole(key: str, value: Any, low: int, high: int | None = None) -> None:
    """Refuse what is not an integer in ``low..high`` (``high=None``: no upper end)."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= low
    if not ok or (high is not None and value > high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise UserError(f"{key} is {value!r}; allowed: a whole number, {span}")


def finite(key: str, value: Any, allowed: str = "a number") -> None:
    """Refuse what is not a finite number; ``allowed`` says in words what is."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise UserError(f"{key} is {value!r}; allowed: {allowed}")


def distinct(key: str, values: Any) -> None:
    """Refuse what is not a list of different values."""
    # Counted, not made a set of: what cannot be hashed is refused like everything else.
    alike = isinstance(values, list) and any(values.count(each) > 1 for each in values)
    if not isinstance(values, list) or alike:
        raise UserError(f"{key} is {values!r}; allowed: a list of different values")


def positive(key: str, value: Any, or_zero: bool = False) -> None:
    """Refuse what is not a finite number above zero (or zero, where ``or_zero``)."""
    allowed = f"a number {'of at least' if or_zero else 'above'} zero"
    finite(key, value, allowed)
    if value < 0 or (value == 0 and not or_zero):
        raise UserError(f"{key} is {value!r}; allowed: {allowed}")


def cores() -> int:
    """CPU cores that this process may use, which can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
