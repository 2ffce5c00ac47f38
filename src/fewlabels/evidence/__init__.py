"""From runs to tables, figures and verdicts: the words in which a notebook asks.

    runs = ev.runs(chapter, settings)                  one row per planned run, all that is known
    report = ev.where(runs, protocol="report", labels=100)
    cnn, rotnet = (ev.where(report, name=n) for n in ("cnn", "rotnet (frozen)"))
    ev.table(report, {"Method": "name"}, {"n": ev.count(), "%": ev.percent()}, label, caption)
    gain = ev.difference(rotnet, cnn)                  f"{gain:+.1%}" prints it with its interval

A *question* is a table of runs cut by `where`; a *column* says how the runs of one row become one
cell; a *measure* is an interval that prints itself, "not run" where nothing was. Names that no
planned run has are refused.
"""

from fewlabels.evidence.claims import (
    Compared,
    all_of,
    compared,
    figures,
    gap,
    judged,
    lowest,
    margin,
    part,
    printed,
    printed_number,
    quoted,
    said,
    signed,
)
from fewlabels.evidence.compare import Comparisons, versus
from fewlabels.evidence.frame import done, frame, runs, where
from fewlabels.evidence.measures import difference, fraction, luck, mean, means, pairs, unpaired
from fewlabels.evidence.predictions import (
    classes,
    confused,
    confusion,
    curves,
    mixed_up,
    per_class,
    recalls,
    split_variance,
)
from fewlabels.evidence.table import beside, count, median, number, percent, table, value
from fewlabels.tables import claims_table, show

__all__ = [
    "Compared",
    "Comparisons",
    "all_of",
    "beside",
    "claims_table",
    "classes",
    "compared",
    "confused",
    "confusion",
    "count",
    "curves",
    "difference",
    "done",
    "figures",
    "fraction",
    "frame",
    "gap",
    "judged",
    "lowest",
    "luck",
    "margin",
    "mean",
    "means",
    "median",
    "mixed_up",
    "number",
    "pairs",
    "part",
    "per_class",
    "percent",
    "printed",
    "printed_number",
    "quoted",
    "recalls",
    "runs",
    "said",
    "show",
    "signed",
    "split_variance",
    "table",
    "unpaired",
    "value",
    "versus",
    "where",
]
