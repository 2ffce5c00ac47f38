"""From runs to tables, figures and verdicts: the words in which a notebook asks.

    runs = ev.runs(chapter, settings)                  one row per planned run, all that is known
    report = ev.where(runs, protocol="report", labels=100)
    cnn, rotnet = (ev.where(report, name=n) for n in ("cnn", "rotnet (frozen)"))
    ev.table(report, {"Method": "name"}, {"n": ev.count(), "%": ev.percent()}, label, caption)
    gain = ev.difference(rotnet, cnn)                  percent(gain, sign=True) prints it

A *question* is a table of runs cut by `where`; a *column* says how the runs of one row become one
cell; a *measure* is an interval, which `fewlabels.evidence.tables.percent` and `number` print: "not
run" where nothing was. Names that no planned run has are refused.
"""

# ruff: noqa: F401
from fewlabels.evidence.claims import (
    Compared,
    all_of,
    all_printed,
    compared,
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
    span,
    untested,
)
from fewlabels.evidence.compare import Comparisons, versus
from fewlabels.evidence.drawn import calibration, confusions, dots, overlaid, rates
from fewlabels.evidence.frame import done, frame, known, named, of_draws, of_the_book, runs, where
from fewlabels.evidence.glance import claims as at_a_glance
from fewlabels.evidence.measures import (
    difference,
    fraction,
    mean,
    mean_difference,
    means,
    pairs,
    unpaired,
)
from fewlabels.evidence.predictions import (
    by_class,
    classes,
    confused,
    confusion,
    confusion_grid,
    curve,
    curves,
    hits,
    mixed_up,
    per_class,
    recalls,
    right,
    split_variance,
)
from fewlabels.evidence.table import (
    beside,
    beside_the_book,
    count,
    median,
    number,
    percent,
    share,
    table,
    units,
    value,
)
from fewlabels.evidence.tables import claims_table, show
from fewlabels.evidence.verdicts import Printed, Verdict, at_most, direction
