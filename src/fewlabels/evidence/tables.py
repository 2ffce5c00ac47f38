"""How results look as tables: Markdown with a computed caption, the same for HTML, PDF and preview.

A table is returned at the end of a notebook cell. It writes itself as a pipe table inside a
cross-reference block, so that Quarto numbers it and ``@tbl-...`` finds it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fewlabels.errors import UserError
from fewlabels.evidence.statistics import Interval, PairedDifference, holm, share_interval
from fewlabels.reference.published import Claim, spelled

NOT_RUN = "not run"
NO_FIGURE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
# Characters on a line of the PDF's page, and the longest text that a column keeps on one line.
PAGE = 84
SHORT = 24
LEAST = 20
GROUPS = 6
"""Groups of what was not run that are named before the rest is counted."""

OPTIONAL = {"n", "note", "deviation", "protocol", "figures"}
"""Keys that a row of a claims table may have."""

# What the page shows on demand only, and links and spans, of which a reader sees the text only.
_HIDDEN = re.compile(r" \[.*\]\{\.why\}$")
_MARKUP = re.compile(r"\[([^\]]*)\](?:\{[^}]*\}|\([^)]*\))")
_NUMBER = re.compile(
    rf"{NOT_RUN}|{NO_FIGURE}|(?:always )?[+{MINUS}<]?\d[\d.,]*( \[[^\]]*\]| \([a-z ]+\))?"
)


def number(
    value: float | Interval | PairedDifference | None, decimals: int = 1, sign: bool = False
) -> str:
    """A value, with its interval if it has one: ``"95.8 [94.9, 96.7]"``.

    sign: write + as well as minus, for differences. None and nan are "not run"; where there is no
    interval, because of one run, two runs, or runs that agree exactly ("always 100.0"), the value
    says so. An end just below zero keeps its minus: the interval holds zero.
    """

    def digits(x: float, zero: str = "z") -> str:
        return f"{x + 0.0:{'+' if sign else ''}{zero},.{decimals}f}".replace("-", MINUS)

    if value is None:
        return NOT_RUN
    if not hasattr(value, "low"):
        return NOT_RUN if math.isnan(value) else digits(value)
    if math.isnan(value.mean):
        return NOT_RUN
    if math.isnan(value.low) or math.isnan(value.high):
        few = {1: " (one run)", 2: " (two runs)"}.get(value.n)
        return digits(value.mean) + few if few else f"always {digits(value.mean)}"
    low, high = (digits(end, zero="") for end in (value.low, value.high))
    return f"{digits(value.mean)} [{low}, {high}]"


def percent(
    value: float | Interval | PairedDifference | None, decimals: int = 1, sign: bool = False
) -> str:
    """`number` in percent, from fractions (0..1); for differences, in percentage points."""
    if value is None:
        return NOT_RUN
    if not hasattr(value, "low"):
        return number(100 * value, decimals, sign)
    return number(in_percent(value), decimals, sign)


def in_percent(value: Interval | PairedDifference) -> Interval:
    """Of fractions (0..1) in percent, of their differences in percentage points."""
    return Interval(100 * value.mean, 100 * value.low, 100 * value.high, value.n, "")


def at_most(value: float) -> str:
    """A bound on a number so small that only its size matters: ``"at most 6e-5"``; 0 is "0"."""
    return f"at most {value:.0e}".replace("e-0", "e-") if value else "0"


def how_often(hits: int, count: int) -> str:
    """In a word: never, seldom (under a third), sometimes, mostly (over two thirds), always."""
    if hits in (0, count):
        return "always" if hits else "never"
    return "seldom" if 3 * hits < count else "mostly" if 3 * hits > 2 * count else "sometimes"


def share(hits: Iterable[bool], of: str) -> str:
    """A share with its Wilson interval: ``"3 of 10 seeds (30%, 95% interval 11 to 60%)"``."""
    hits = list(hits)
    if not hits:
        return f"0 of 0 {of}"
    found = share_interval(hits)
    low, high = percent(found.low, 0), percent(found.high, 0)
    counted = f"{sum(hits)} of {len(hits)} {of}"
    return f"{counted} ({percent(found.mean, 0)}%, 95% interval {low} to {high}%)"


@dataclass(frozen=True)
class Table:
    """A captioned table of strings; a notebook shows it, ``str`` gives its Markdown."""

    frame: pd.DataFrame
    label: str
    caption: str
    below: str = ""
    """Markdown that follows the table."""

    def __str__(self) -> str:
        # Nothing to tabulate: what stands below says so in the place of the table.
        nothing = self.frame.empty
        shown = self.below if nothing else _pipe_table(self.frame)
        below = "" if nothing else self.below
        table = f"::: {{#{self.label}}}\n\n{shown}\n\n{self.caption}\n\n:::\n"
        return f"{table}\n{below}\n" if below else table

    def _repr_markdown_(self) -> str:
        return str(self)


def show(
    frame: pd.DataFrame,
    label: str,
    caption: str,
    decimals: int = 1,
    nothing: str = "",
    missing: Sequence[tuple] = (),
) -> Table:
    """The frame's columns as a table, for the end of a notebook cell.

    label: ``tbl-...``, unique in the book. caption: one sentence or more, Markdown; it is computed,
    so it says the data set, n and whatever else a reader needs. Floats are printed with `decimals`
    decimals as they are (see `percent` for fractions), whole numbers with thousands separators,
    missing cells as "not run"; texts are inline Markdown. Columns of numbers are right-aligned. A
    named index becomes the first columns. nothing: what a frame without rows says, where it may
    have none. missing: what the first columns of rows that were not run would say; a line below
    names these rows, and the columns of which no cell was run, which are left out as well.

    Raises UserError for a label without ``tbl-``, an empty caption, an empty frame without
    ``nothing`` or ``missing``, and column names of several levels.
    """
    table = _table(frame, label, caption, decimals, nothing, bool(missing))
    idle = [name for name, cells in table.frame.items() if len(cells) and {*cells} == {NOT_RUN}]
    if idle:
        counts = [f"{name}, n" for name in idle] + ["n"]
        zero = [name for name in counts if {*table.frame.get(name, ["1"])} == {"0"}]
        table = replace(table, frame=table.frame.drop(columns=[*idle, *zero]))
    left_out = [*missing, *((name,) for name in idle)]
    return replace(table, below=f"Not run: {named(left_out)}.") if left_out else table


def named(missing: Iterable[tuple]) -> str:
    """Rows by their first columns, what they share said once: ``"AIM, MAE · frozen, fine-tuned"``.

    What cannot be joined makes groups of its own, of which the first `GROUPS` are named.
    """
    groups = _joined([tuple(map(str, key)) for key in missing])
    said = [" · ".join(_listed(level) for level in group) for group in groups[:GROUPS]]
    more = sum(math.prod(map(len, group)) for group in groups[GROUPS:])
    return ". ".join(said + [f"And {more} more"] * bool(more))


def _joined(keys: Iterable[tuple[str, ...]]) -> list[list[list[str]]]:
    """Keys as products of lists, level by level."""
    by_head: dict[str, list[tuple]] = {}
    for head, *rest in keys:
        by_head.setdefault(head, []).append(tuple(rest))
    alike: dict[tuple, list[str]] = {}
    for head, rests in by_head.items():
        alike.setdefault(tuple(rests), []).append(head)
    return [
        [heads, *tail]
        for rests, heads in alike.items()
        for tail in (_joined(rests) if rests[0] else [[]])
    ]


def _listed(words: Sequence[str]) -> str:
    return ("; " if any(", " in word for word in words) else ", ").join(words)


def _table(
    frame: pd.DataFrame,
    label: str,
    caption: str,
    decimals: int = 1,
    nothing: str = "",
    may_be_empty: bool = False,
) -> Table:
    """`show`, with all rows and columns."""
    if not re.fullmatch(r"tbl-[a-z0-9-]+", label):
        raise UserError(f"label {label!r}: write 'tbl-' and then a-z, 0-9 and hyphens.")
    if not caption.strip():
        raise UserError(f"table {label} has no caption: say the data set, the protocol and n.")
    if frame.columns.nlevels > 1:
        raise UserError(f"table {label} has column names of several levels: join them first.")
    if any(frame.index.names):
        frame = frame.reset_index()
    if frame.empty and nothing:
        first, *others = frame.columns
        frame = pd.DataFrame([{first: nothing} | dict.fromkeys(others, NO_FIGURE)])
    if frame.empty and not may_be_empty:
        raise UserError(f"table {label} is empty: no run matches; check the parameters.")
    cells = frame.astype(object).map(lambda cell: _text(cell, decimals))
    return Table(cells.rename(columns=str), label, caption.strip())


def _text(cell: object, decimals: int) -> str:
    if pd.isna(cell):
        return NOT_RUN
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return number(cell, 0)
    if isinstance(cell, float):
        return number(cell, decimals)
    # A bare bar or line break would end the cell.
    return " ".join(str(cell).split()).replace("|", r"\|")


def _pipe_table(frame: pd.DataFrame) -> str:
    """Markdown pipe table of a frame of strings."""
    numeric = [all(_NUMBER.fullmatch(cell) for cell in cells) for _, cells in frame.items()]
    rules = [
        "-" * (width - 1) + ":" if right else ":" + "-" * (width - 1)
        for width, right in zip(_widths(frame, numeric), numeric, strict=True)
    ]
    rows = [list(frame.columns), rules, *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _widths(frame: pd.DataFrame, numeric: list[bool]) -> list[int]:
    """Characters for each column: Pandoc takes relative widths from them where a row is long.

    Numbers and short texts stay on one line; long texts share the rest of the page by the square
    root of their mean lengths, which lets the longest wrap more often but not push out the others.
    Where numbers fill the page, a text still gets `LEAST` characters.
    """
    natural, word, mean = [], [], []
    seen = frame.replace(_HIDDEN, "", regex=True).replace(_MARKUP, r"\1", regex=True)
    for name, cells in seen.items():
        words = [word for text in (name, *cells) for word in (text.split() or [""])]
        word.append(max(map(_letters, words)) + 2)
        natural.append(max(word[-1], *(len(cell) + 2 for cell in cells)))
        mean.append(sum(len(cell) + 2 for cell in cells) / len(cells))
    long = [n > SHORT and not right for n, right in zip(natural, numeric, strict=True)]
    rest = PAGE - sum(n for n, shares in zip(natural, long, strict=True) if not shares)
    unit = rest / max(1, sum(m**0.5 for m, shares in zip(mean, long, strict=True) if shares))
    return [
        max(w, min(n, max(LEAST, round(unit * m**0.5)))) if shares else n
        for n, w, m, shares in zip(natural, word, mean, long, strict=True)
    ]


def _letters(word: str) -> int:
    """A word in capitals is as wide as one of a quarter more letters, BloodMNIST as one of two."""
    capitals = sum(map(str.isupper, word))
    return len(word) + ((len(word) + 3) // 4 if word.isupper() else capitals // 3)


def corrected(found: Iterable[PairedDifference]) -> list[float]:
    """Their p values after Holm's correction over those that have one; nan for the others."""
    ps = [each.p for each in found]
    tested = [p for p in ps if not math.isnan(p)]
    adjusted = iter(holm(tested) if tested else ())
    return [math.nan if math.isnan(p) else float(next(adjusted)) for p in ps]


def compared(found: Mapping[str, PairedDifference]) -> pd.DataFrame:
    """Comparisons by name as a frame, with Holm's correction over those that have a p value.

    Columns: comparison, mean, low, high (fractions), n, p (corrected), difference.
    """
    rows = [
        (name, each.mean, each.low, each.high, each.n, p, each)
        for (name, each), p in zip(found.items(), corrected(found.values()), strict=True)
    ]
    return pd.DataFrame(rows, columns=["comparison", "mean", "low", "high", "n", "p", "difference"])


def p_value(p: float) -> str:
    """Three decimals, and ``<0.001`` below them; a dash where there is no test."""
    if math.isnan(p):
        return NO_FIGURE
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def claims_table(rows: Iterable[Mapping], label: str, caption: str) -> Table:
    """Claims with their verdicts, and below them the reasons. Each row has these keys, no others:

    claim: a `fewlabels.reference.published.Claim`; ours: an `Interval` in fractions (0..1), a
    difference, a text where the unit is another one, or None; n: units of luck, needed only with a
    text; verdict: a `fewlabels.evidence.verdicts.Verdict` or its word. Optional: note and deviation
    (from the source's settings), texts; protocol (``report`` unless said) and figures, a list of
    `fewlabels.evidence.verdicts.Printed`, for the ledger. The reasons stand in a box that opens by
    a click on the web page; a deviation that several claims share stands there once.
    """
    rows = _checked(rows, {"claim", "ours", "verdict"}, OPTIONAL)
    table = _table(
        pd.DataFrame(
            {
                "Claim": f"{linked(row['claim'].id)} {stated(row['claim'])}",
                "Published": _published_by(row["claim"]),
                **_ours(row),
                "Verdict": mark(row["verdict"]),
            }
            for row in rows
        ),
        label,
        caption,
    )
    return replace(table, below=_reasons(rows))


def linked(id: str) -> str:
    """A claim's number, linked to its row of the ledger."""
    return f"[**{id}**](08-replication-ledger.ipynb#{id})"


def stated(claim: Claim) -> str:
    """A claim's words, and of a question what it is taken to ask."""
    return claim.text + (f" *Taken to ask: {claim.hypothesis}*" if claim.hypothesis else "")


def mark(verdict: object, said: str = "") -> str:
    """A verdict as an inline with the classes that its sign and colour go by.

    verdict: a `fewlabels.evidence.verdicts.Verdict` or its word; said: printed in its place.
    """
    word = getattr(verdict, "word", str(verdict))
    return f"[{said or verdict}]{{.verdict .{word.replace(' ', '-')}}}"


def _reasons(rows: Iterable[Mapping]) -> str:
    """A list of why each verdict is what it is, and of the deviations, in a box that folds.

    On paper it is not repeated: `styles/book.lua` leaves a line that leads to the ledger.
    """
    lines, differ = [], {}
    for row in rows:
        claim, said = row["claim"], [row.get("note", "")]
        if claim.erratum:
            said.append(f"In the source, {claim.erratum}.")
        if any(said):
            lines.append(f"- **{claim.id}** {mark(row['verdict'])} {' '.join(filter(None, said))}")
        if row.get("deviation"):
            differ.setdefault(row["deviation"], []).append(claim.id)
    lines += [f"- How our runs differ ({', '.join(ids)}): {text}" for text, ids in differ.items()]
    if not lines:
        return ""
    head = '::: {.callout-note collapse="true" icon=false}\n## Why: the reason for each verdict'
    paper = "The reason for each verdict is in @sec-ledger-reasons."
    folded = ["::::: {.reasons}", head, "", *lines, ":::", ":::::"]
    return "\n".join([*folded, "", "::: {.paper}", paper, ":::"])


def _checked(rows: Iterable[Mapping], needed: set[str], optional: set[str]) -> list[Mapping]:
    rows = list(rows)
    for row in rows:
        if needed - set(row) or set(row) - needed - optional:
            raise UserError(
                f"a row has the keys {', '.join(row)}: it needs {', '.join(sorted(needed))}, "
                f"and may have {', '.join(sorted(optional))}."
            )
    return rows


def _published(figure: float | list | str | None) -> str:
    if figure is None:
        return NO_FIGURE
    if isinstance(figure, list):
        return " to ".join(_published(end) for end in figure)
    return figure if isinstance(figure, str) else f"{figure:,.12g}".replace("-", MINUS)


def _published_by(claim: Claim) -> str:
    figures = claim.published or {}
    if len(figures) < 2:
        return _published(next(iter(figures.values()), None))
    return "; ".join(f"{spelled(name)} {_published(x)}" for name, x in figures.items())


def _ours(row: Mapping) -> dict[str, str]:
    ours = row["ours"]
    if ours is None:
        return {"Ours": NOT_RUN, "n": "0"}
    if isinstance(ours, str):
        return {"Ours": ours, "n": str(row["n"])}
    return {"Ours": percent(ours, sign=isinstance(ours, PairedDifference)), "n": str(ours.n)}
