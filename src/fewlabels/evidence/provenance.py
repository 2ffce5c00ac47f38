"""Where a chapter's numbers come from: the sentences and the box that every chapter shows."""

import re
from collections.abc import Iterable

from IPython.display import Markdown

from fewlabels import data
from fewlabels.runs.expected import duration
from fewlabels.runs.records import Record

DAGGER = "\N{DAGGER}"


def data_line(dataset: str) -> str:
    """The data set as a caption names it, see `short`."""
    return short(data.load(dataset).title)


def short(title: str) -> str:
    """A title for captions: where the files come from stands in the chapter's
    `data_box`, and a dagger sends readers there."""
    first = re.split(r" \(| in copies |, (?=weights |not )", title)[0]
    return first if first == title else f"{first}{DAGGER}"


def data_box(datasets: Iterable[str], more: Iterable[str] = ()) -> Markdown:
    """The box "Data and weights", which says once what holds for every table and figure.

    datasets: names; more: sentences on other data, weights or the budget.
    """
    lines = [f"- {data.load(each).title}, md5 `{data.md5(each)}`." for each in datasets]
    lines += [f"- {each}" for each in more]
    head = '::: {.callout-note collapse="true" icon=false}\n## Data and weights'
    dagger = f"{DAGGER} in a caption refers to this list; it holds for every table and figure here."
    return Markdown("\n".join([head, "", *lines, "", dagger, ":::"]))


def answer(chapter: str, text: str) -> Markdown:
    """The chapter's answer in a sentence or two, which the front page shows as well.

    chapter: its name. text: Markdown; ``[99.4%]{.number}`` is the number that catches the eye.
    """
    return Markdown(f"::: {{#answer-{chapter} .answer}}\n{text}\n:::")


def rerun_box(chapter: str, records: Iterable[Record], commands: dict[str, str]) -> Markdown:
    """The box "Rerun this chapter": commands, time, hardware, data and versions.

    Args:
        chapter: its name.
        records: of every run that the chapter shows.
        commands: what it does -> the command.
    """
    records = list(records)
    seconds = sum(record.seconds for record in records)
    sums = {name: md5 for record in records for name, md5 in record.data.items()}
    machines = sorted({_machine(record) for record in records})
    versions = sorted({_versions(record) for record in records})
    dates = sorted(record.finished[:10] for record in records)
    lines = [
        "::: {.callout-note}",
        "## Rerun this chapter",
        "",
        *(f"- {what}: `{command}`" for what, command in commands.items()),
        f"- Runs: {len(records)}, each one line of `results/{chapter}/records*.jsonl` with its "
        "config, seed, data checksum, versions, curves and predictions.",
    ]
    if records:
        lines += [
            f"- Time: {duration(seconds)} in all, one thread or one GPU per run.",
            f"- Hardware: {'; '.join(machines)}.",
            f"- Data: {'; '.join(_sum(name, value) for name, value in sorted(sums.items()))}.",
            f"- Versions: {'; '.join(versions)}.",
            f"- Computed: {dates[0]}" + (f" to {dates[-1]}." if dates[-1] != dates[0] else "."),
        ]
    lines.append(":::")
    return Markdown("\n".join(lines))


def commands(chapter: str, **more: str) -> dict[str, str]:
    """What a reader can type, by what it does. more: what it does -> options of `fewlabels run`."""
    run = f"fewlabels run {chapter}"
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={chapter}",
        "Everything, as printed here": f"{run} --profile full -p store cache",
    } | {what: f"{run} {options}" for what, options in more.items()}


def _sum(name: str, value: str) -> str:
    """A checksum with its kind; torchvision's weights are named by the file that was fetched."""
    kind = {32: "md5 ", 64: "sha256 "}.get(len(value), "")
    return f"{name}, {kind}`{value}`" if value else name


def _machine(record: Record) -> str:
    hardware = record.hardware
    return (
        f"{hardware['device']} ({hardware['processor']}, {hardware['threads']} thread a run, "
        f"precision {hardware['precision']})"
    )


def _versions(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
