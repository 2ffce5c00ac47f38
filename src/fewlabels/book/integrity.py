"""`fewlabels verify`: do tables and pages say what the records say, and records what they keep?"""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fewlabels import chapters, data, files, paths
from fewlabels.book import card, freeze, inserted, ledger, summary
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.evidence import remeasured, standings
from fewlabels.reference import published
from fewlabels.runs import manifest
from fewlabels.runs.reading import NO_RECORD, Record

OPEN = 1e-4
"""Relative width of a span that is more than the rounding of a mean."""


@dataclass
class Report:
    """What was compared, and what does not agree."""

    wrong: list[str] = field(default_factory=list)
    """One line each."""
    unchecked: Counter[str] = field(default_factory=Counter)
    """Why something could not be compared on this machine -> how often."""
    records: int = 0
    again: int = 0
    """Metrics made again from what their record keeps."""
    spans: int = 0
    """Of these, the ones that probabilities in float16 give a span and not a number."""
    without: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Kind of run -> metrics that nothing in the record can be set against -> how many."""


def verify() -> Report:
    """Compare the whole book with its records. Nothing is computed, written or moved."""
    report = Report()
    there = manifest.records()
    with _told(report, "MANIFEST"):
        listed = manifest.listed()
        report.wrong += manifest.differences(listed, there)
        new = sorted(there.keys() - listed)
        report.wrong += [f"results/{name} is not in MANIFEST" for name in new]
    found = _records(report)
    _cells(report, found)
    _table(report, "summary.csv", summary.COLUMNS, summary.rows, chapters.names())
    with _told(report, "claims.yaml"):
        claimed = dict.fromkeys(claim.chapter for claim in published.claims().values())
        _table(report, "claims.csv", ledger.COLUMNS, ledger.rows, claimed)
        report.wrong += [
            f"results/claims.csv: {n} has other claims or records" for n in freeze.stale_claims()
        ]
        for name in chapters.names():
            if stale := freeze.status(name).stale:
                report.wrong.append(f"_freeze, {name}: {freeze.in_words(stale)}")
    _draws(report)
    with _told(report, "chapters"):
        report.wrong += inserted.stale()
        if card.stale():
            report.wrong.append("styles/card.png: not what the ledger says (`fewlabels summary`)")
    return report


def in_words(report: Report) -> Iterator[str]:
    """What was compared and what could not be, in lines for a terminal."""
    yield (
        f"{report.records:,} records; {report.again:,} of their metrics made again from the "
        f"predictions and curves they keep, {report.spans:,} to within what float16 leaves open"
    )
    for kind, names in sorted(report.without.items()):
        if names:
            first = sorted(names, key=lambda name: (-names[name], name))[:4]
            which = ", ".join(first) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            yield f"  {kind}: nothing kept to make {names.total():,} again ({which})"
    for why, count in report.unchecked.items():
        yield f"not compared here, {count} times: {why}"
    yield f"{len(report.wrong)} things do not agree" if report.wrong else "everything agrees"


@contextmanager
def _told(report: Report, what: str) -> Iterator[None]:
    """A UserError within it is one more thing that is wrong."""
    try:
        yield
    except UserError as error:
        report.wrong.append(f"{what}: {error}")


def _records(report: Report) -> dict[str, Record]:
    """Every sound record by its id, compared with its name and with what it keeps."""
    found: dict[str, Record] = {}
    for name in manifest.records():
        with _told(report, f"results/{name}"):
            record = manifest.read(name)
            report.records += 1
            own = f"{record.config.get('kind')}-{record.id}.json"
            if name.split("/")[1] != own:
                raise UserError(f"it lies under another name than its own, {own}.")
            if record.id in found:
                raise UserError(f"another chapter has a record {record.id} as well.")
            found[record.id] = record
            compare(report, record)
    return found


def compare(report: Report, record: Record) -> None:
    """Compare a record's metrics with what it keeps. Raises UserError where they do not agree."""
    try:
        spans = remeasured.spans(record)
    except remeasured.NoLabels as error:
        report.unchecked[str(error)] += 1
        return
    except (*NO_RECORD, ArithmeticError) as error:
        raise UserError(f"its metrics cannot be made again: {error}") from error
    kind = record.config["kind"]
    report.without[kind].update(record.metrics.keys() - spans.keys())
    report.again += len(spans)
    wrong = []
    for metric, (low, high) in spans.items():
        value, open_ = record.metrics[metric], high - low > OPEN * abs(high)
        report.spans += open_
        if not (low <= value <= high or all(map(math.isnan, (low, value)))):
            span = f"{low:.6g} to {high:.6g}" if open_ else f"{(low + high) / 2:.6g}"
            wrong.append(f"{metric} is {value:.6g}, and what is kept gives {span}")
    if wrong:
        raise UserError("; ".join(wrong))


def _cells(report: Report, found: dict[str, Record]) -> None:
    """What a record says it counts towards is what the code says of its run."""
    for name in chapters.names():
        chapter = chapters.load(name)
        with data.as_in_the_book():
            planned = chapter.plan(chapter.Settings(**profiles.parameters(name, "full")))
            planned = {run.id: run for run in planned}
        for id in planned.keys() & found:
            if planned[id].cell() != found[id].cell:
                report.wrong.append(f"{name}: record {id} counts itself towards other runs")


def _draws(report: Report) -> None:
    """What is published of the label draws, compared with the data."""
    for task in standings.files_of_tasks():
        report.wrong += [f"results/draws: {line}" for line in standings.altered(task)]
        try:
            report.wrong += [f"results/draws: {line}" for line in standings.differences(task)]
        except UserError as error:
            report.unchecked[f"results/draws: {error}"] += 1


def _table(
    report: Report,
    file: str,
    columns: Sequence[str],
    rows: Callable[[str], list[dict]],
    names: Sequence[str],
) -> None:
    """The rows of every chapter in a table under results/ are those made from its records."""
    made: Counter[tuple[str, ...]] = Counter()
    left_out: set[str] = set()
    for name in names:
        try:
            _, *lines = csv.reader(io.StringIO(files.table(columns, rows(name))))
            made.update(map(tuple, lines))
        except UserError as error:
            left_out.add(name)
            if str(error) in report.unchecked:  # Without its labels a chapter has no claims.
                report.unchecked[str(error)] += 1
            else:
                report.wrong.append(f"results/{file} cannot be made again: {error}")
    path = paths.RESULTS / file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines, place = [*csv.reader(io.StringIO(text))], columns.index("chapter")
    stored = Counter(tuple(each) for each in lines[1:] if not left_out & {*each[place : place + 1]})
    if lines[:1] != [list(columns)]:
        report.wrong.append(f"results/{file} is missing or has other columns")
    for rest, told in ((stored - made, "that no record gives"), (made - stored, "too few")):
        if rest:
            first = " ".join(filter(None, next(iter(rest))))[:100]
            rows_ = f"{rest.total()} row{'s' * (rest.total() > 1)}"
            report.wrong.append(f"results/{file} has {rows_} {told}: {first}")
