"""Every claim of the sources with its verdict, in one table: results/claims.csv."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from fewlabels import files, paths
from fewlabels.book import freeze, notebooks
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.evidence import statistics, verdicts
from fewlabels.evidence.power import detectable, runs_needed
from fewlabels.evidence.statistics import (
    ALPHA,
    Interval,
    PairedDifference,
)
from fewlabels.evidence.tables import MINUS, NOT_RUN, in_percent, percent
from fewlabels.evidence.verdicts import (
    ANSWERS,
    DIFFERENCE_WORDS,
    FIGURE_WORDS,
    FORMER,
    Printed,
    Verdict,
)
from fewlabels.reference import published
from fewlabels.reference.published import Claim
from fewlabels.runs import manifest

COLUMNS = [
    *("claim", "source", "chapter", "kind", "quantity", "published", "unit"),
    *("ours", "low", "high", "n", "spread", "margin", "beyond", "figure"),
    *("verdict", "above", "p", "claim_n", "protocol", "in_words", "reason", "deviation"),
    *("run_seconds", "devices", "command", "records"),
]
"""One row per printed figure, and one for a claim without any. ``ours``, ``low``, ``high``: mean
and 95% interval in ``unit``, over ``n`` units of luck; ``spread``: standard deviation of single
runs; ``figure``: the verdict on this figure, which agrees where it is shown to lie within
``margin`` of ours and is contradicted from ``beyond`` on. ``verdict`` with its ``p`` value, and
with the margin that no difference is ``above``; ``claim_n``, ``in_words``, ``reason`` and
``deviation`` are the claim's. ``run_seconds`` and ``devices``: of all runs of the chapter.
``records``: a hash of their records."""
NUMBERS = ["ours", "low", "high", "spread", "margin", "beyond", "p", "run_seconds"]
COUNTS = ["n", "claim_n"]
GROUPS = {
    "printed figures and counts": (("figure", "count", "time"), FIGURE_WORDS),
    "differences, orders and limits": (("difference", "order", "limit"), DIFFERENCE_WORDS),
    "questions": (("question",), ANSWERS),
}
"""What verdicts are about -> kinds of claims, and the words for them."""
NAMED = 12
"""Claims that a caption names one by one."""


def write() -> Path:
    """Rewrite results/claims.csv from the records of the book's runs and return its path.

    Nothing is computed. Raises UserError for a record that is damaged, or missing though the book
    has it, and for a claim that no chapter gives a verdict.
    """
    manifest.check()
    content = text()
    file = paths.RESULTS / "claims.csv"
    with files.whole(file) as stream:
        stream.write(content.encode())
    return file


def text() -> str:
    """The table, made from the records."""
    table = [row for name in _chapters() for row in rows(name)]
    order = {id: place for place, id in enumerate(published.claims())}
    if without := order.keys() - {row["claim"] for row in table}:
        raise UserError(
            f"no chapter gives a verdict on {', '.join(sorted(without))}, which claims.yaml has: "
            "add it to the cells of the chapter that are tagged `claims`."
        )
    table.sort(key=lambda row: order[row["claim"]])
    return files.table(COLUMNS, table)


def read() -> pd.DataFrame:
    """results/claims.csv with `COLUMNS`; numbers are nan and texts empty where there is none.

    Raises UserError where the file is missing or lacks columns.
    """
    file = paths.RESULTS / "claims.csv"
    if not file.exists():
        raise UserError(f"{file} is missing: write it with `fewlabels claims`.")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(
            f"{file} lacks {', '.join(missing)}: write it again with `fewlabels claims`."
        )
    for column in NUMBERS:
        table[column] = pd.to_numeric(table[column])
    for column in COUNTS:
        table[column] = pd.to_numeric(table[column]).fillna(0).astype(int)
    return table


def by_verdict(claims: pd.DataFrame) -> pd.DataFrame:
    """How many claims have each verdict: ``group`` of `GROUPS`, ``verdict``, ``number``, ``which``.

    claims: rows of the table, one per claim. Words that no claim has are left out.
    """
    found = []
    for group, (kinds, words) in GROUPS.items():
        own = claims[claims["kind"].isin(kinds)]
        for word in words:
            ids = own.loc[own["verdict"] == word, "claim"]
            found.append((group, word, len(ids), ", ".join(ids)))
    table = pd.DataFrame(found, columns=["group", "verdict", "number", "which"])
    return table[table["number"] > 0]


def all_at_once(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims about differences that were tested, with ``corrected``: their p values after
    Holm's correction over all of them; what no test decides, such as a bound, counts as 1.
    claims: rows of the table, one per claim."""
    kinds, _ = GROUPS["differences, orders and limits"]
    tested = claims["p"].notna() | (claims["verdict"] == "undecided")
    own = claims[claims["kind"].isin(kinds) & tested]
    return own.assign(corrected=statistics.holm(own["p"].fillna(1)) if len(own) else own["p"])


def beside_former(claims: pd.DataFrame) -> pd.DataFrame:
    """Verdicts beside those of the rules before: ``claim``, ``before``, ``now``, ``why`` they
    differ, and whether they mean the ``same``. claims: rows of the table, one per claim."""
    former = published.former_verdicts().rename(columns={"verdict": "before"})
    found = former.merge(claims[["claim", "verdict"]].rename(columns={"verdict": "now"}))
    pairs = zip(found["before"], found["now"], strict=True)
    same = pd.Series([now in FORMER[before] for before, now in pairs], found.index, dtype=bool)
    return found.assign(same=same)


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """The printed figures that were measured, each once: some claims repeat another one's."""
    found = table[(table["published"] != "") & (table["figure"] != "") & (table["n"] > 0)]
    return found.drop_duplicates(["source", "published", "ours", "low", "high"])


def power(table: pd.DataFrame) -> pd.DataFrame:
    """The differences in points that a source prints or that are undecided, and what our runs
    could have shown of them.

    Adds ``claimed`` (nan where none is printed), ``margin``, ``spread`` (standard deviation of the
    difference between units of luck), ``found`` (see `fewlabels.evidence.power.detectable`),
    and ``needed_claimed`` and ``needed_margin``: units that find the claimed difference, nan where
    none is, and the margin. Without claims on splits of one data set: more of them would not tell
    more.
    """
    everything = published.claims()
    split = [id for id, claim in everything.items() if claim.luck == "split"]
    asked = (table["published"] != "") | (table["verdict"] == "undecided")
    in_points = (table["unit"] == "points") & table["low"].notna()
    rows = table[asked & in_points & ~table["claim"].isin(split)]
    claimed = pd.to_numeric(rows["published"])
    margin = rows["claim"].map(lambda id: everything[id].margin_of("difference")).astype(float)
    error = (rows["high"] - rows["low"]) / 2 / stats.t.ppf(1 - ALPHA / 2, rows["n"] - 1)
    spread = error * rows["n"] ** 0.5

    def needed(differences: pd.Series) -> list[float]:
        return [
            math.nan if math.isnan(each) else runs_needed(each, scatter)
            for each, scatter in zip(differences, spread, strict=True)
        ]

    return rows.assign(
        claimed=claimed,
        margin=margin,
        spread=spread,
        found=[detectable(*each) for each in zip(error, rows["n"] - 1, strict=True)],
        needed_claimed=needed(claimed),
        needed_margin=needed(margin),
    )


def rebuilt(table: pd.DataFrame) -> str:
    """A sentence for captions: which measured claims rest on data that are not the official files,
    or how many where they are many; empty where none does."""
    measured = table[(table["n"] > 0) & table["deviation"].str.contains("not the official file")]
    ids = measured["claim"].unique()
    if not len(ids):
        return ""
    kinds = " and ".join(sorted({id[0] for id in ids}))
    named = ", ".join(ids) if len(ids) <= NAMED else f"{len(ids)} of the claims {kinds}"
    return f"On rebuilt data sets, not the official files: {named}."


def with_unit(figure: str, unit: str) -> str:
    """A printed figure of the table, with its unit where that is neither percent nor points."""
    if "to" not in figure:
        figure = f"{float(figure):,.12g}".replace("-", MINUS)
    if unit in ("%", "points"):
        return figure
    return f"epoch {figure}" if unit == "epoch" else f"{figure} {unit}"


def entries(name: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a chapter's table of claims, for parameters as `profiles.parameters` gives them.

    Nothing is computed. Raises UserError where runs are missing, unless the parameters say by
    ``minutes: 0`` that the chapter does without.
    """
    from fewlabels import chapters
    from fewlabels.runs.records import reading_only

    chapter = chapters.load(name)
    settings = chapter.Settings(**values)
    if values.get("minutes") != 0:
        store = chapter.store(settings)
        missing = [run for run in chapter.plan(settings) if not store.has(run)]
        if missing:
            raise store.lacks(*missing)
    with reading_only():
        return notebooks.evaluate(chapters.notebook(name), values, "runs", "claims")["claims"]


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of results/claims.csv for one chapter."""
    from fewlabels import data
    from fewlabels.runs.records import reading_only

    values = profiles.parameters(name, "full")
    with data.as_in_the_book(), reading_only():
        found = entries(name, values)
        made = _made(name, values)
    return [row for each in found for row in _rows(each, made)]


def _chapters() -> list[str]:
    return list(dict.fromkeys(claim.chapter for claim in published.claims().values()))


def _made(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Time and machines of a chapter's runs, and how to make them again."""
    from fewlabels import chapters

    chapter = chapters.load(name)
    settings = chapter.Settings(**values)
    store = chapter.store(settings)
    records = [record for run in chapter.plan(settings) if (record := store.get(run))]
    missing = " -p minutes -1" if values.get("minutes") == 0 else ""
    return {
        "run_seconds": round(sum(record.seconds for record in records)),
        "devices": "; ".join(sorted({record.hardware["device"] for record in records})),
        "command": f"fewlabels run {name} --profile full{missing}",
        "records": freeze.digest(name),
    }


def _rows(row: Mapping[str, Any], made: Mapping[str, Any]) -> list[dict[str, Any]]:
    claim: Claim = row["claim"]
    verdict: Verdict = row["verdict"]
    base = {
        "claim": claim.id,
        "source": claim.source,
        "chapter": claim.chapter,
        "kind": claim.kind,
        "verdict": verdict.word,
        "above": verdict.above,
        "p": _digits(verdict.p),
        "claim_n": _n(row),
        "protocol": row.get("protocol", "report"),
        "in_words": in_words(row["ours"]),
        "reason": row.get("note", ""),
        "deviation": row.get("deviation", ""),
        **made,
    }
    parts = {part.key: part for part in row.get("figures", ())}
    words = dict(zip(parts, verdicts.printed_figures(claim, [*parts.values()]), strict=True))
    found = [
        base
        | {"quantity": key, "published": _written(value), "unit": published.unit(key)}
        | (_measured(claim, parts[key], words[key]) if key in parts else {"n": base["claim_n"]})
        for key, value in (claim.published or {}).items()
    ]
    return found or [base | _own(row)]


def _measured(claim: Claim, part: Printed, verdict: Verdict) -> dict[str, Any]:
    """Ours of one printed figure, in its unit, and the verdict on it."""
    if not len(part.values):
        return {"n": 0, "figure": verdict.word}
    interval = part.interval()
    found = part.against(claim.published[part.key])
    return _bounds(interval) | {
        "n": interval.n,
        "spread": _digits(found.spread) if found else "",
        "margin": _digits(claim.margin_of(part.key)) if found else "",
        "beyond": _digits(verdict.beyond),
        "figure": verdict.word,
    }


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    """Ours of a claim that prints no figure."""
    ours = row["ours"]
    if isinstance(ours, Interval | PairedDifference):
        unit = "points" if isinstance(ours, PairedDifference) else "%"
        return {"unit": unit, "n": ours.n} | _bounds(in_percent(ours))
    return {"n": _n(row)}


def _n(row: Mapping[str, Any]) -> int:
    ours = row["ours"]
    return ours.n if isinstance(ours, Interval | PairedDifference) else row.get("n", 0)


def _bounds(interval: Interval) -> dict[str, str]:
    return {
        "ours": _digits(interval.mean),
        "low": _digits(interval.low),
        "high": _digits(interval.high),
    }


def _digits(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


def in_words(ours: str | Interval | PairedDifference | None) -> str:
    """What a chapter's own table of claims prints as ours."""
    if ours is None or isinstance(ours, str):
        return ours or NOT_RUN
    return percent(ours, sign=isinstance(ours, PairedDifference))


def _written(value: float | Iterable[float]) -> str:
    if isinstance(value, list):
        return " to ".join(_written(end) for end in value)
    return f"{value:.12g}"
