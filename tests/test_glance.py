"""Claims at a glance: what is drawn of a row, and the tiles."""

import math

import numpy as np
import pytest

from fewlabels import evidence as ev
from fewlabels.evidence import glance, verdicts
from fewlabels.evidence.statistics import Interval, PairedDifference
from fewlabels.reference import published


def row(id, ours, verdict="undecided", **more):
    return {
        "claim": published.claim(id),
        "ours": ours,
        "verdict": ev.Verdict(verdict, "why"),
    } | more


def marks(fig):
    return [
        (line.get_marker(), *np.round(line.get_xdata(), 6))
        for ax in fig.axes
        for line in ax.lines
        if line.get_marker() not in ("None", "") and line.get_transform() == ax.transData
    ]


def test_a_printed_figure_has_a_diamond_beside_our_mean():
    part = verdicts.Printed("accuracy", [70.0, 72.0, 74.0], 1)
    ours = Interval(0.72, 0.66, 0.78, 3, "by hand")
    fig = ev.at_a_glance([row("R3", ours, "cannot tell", figures=[part])])
    assert set(marks(fig)) == {("o", 72.0), ("D", 73.0)}


def test_a_difference_is_drawn_in_points():
    difference = PairedDifference(0.02, 0.004, 9, 10, "by hand")
    (line,) = glance._lines(row("R8", difference))
    assert (line.panel, line.ours.n) == ("points", 10)
    # t of 9 degrees of freedom at 97.5% is 2.262157.
    assert line.ours.low == pytest.approx(2 - 0.4 * 2.262157, abs=1e-4)


def test_what_has_no_single_number_is_told_in_words():
    (line,) = glance._lines(row("R7", "0.8 points", n=3))
    assert (line.panel, line.told, line.ours.n) == ("", "0.8 points", 3)
    (line,) = glance._lines(row("S13", None, "not tested"))
    assert (line.told, math.isnan(line.ours.mean)) == ("not run", True)


def test_claims_of_which_nothing_was_run_share_a_line_where_they_are_many():
    def texts(ids):
        drawn = [row("R7", "0.8 points", n=3), *(row(each, None, "not tested") for each in ids)]
        fig = ev.at_a_glance(drawn)
        return [text.get_text() for place in (fig, *fig.axes) for text in place.texts]

    assert texts(["S9", "S10", "S13", "S14"]).count("not run") == 4
    many = texts(["S9", "S10", "S11", "S13", "S14"])
    assert "Not run: S9, S10, S11, S13, S14" in many and "not run" not in many


def test_every_verdict_has_a_sign():
    words = {*verdicts.FIGURE_WORDS, *verdicts.DIFFERENCE_WORDS, *verdicts.ANSWERS}
    assert words == glance.SIGNS.keys()


def test_tiles_lead_to_the_ledger():
    text = glance.tiles([("report", "R1", "no difference"), ("sheet", "D1", "yes")], "led.ipynb")
    tile = '[[R1]{.verdict .no-difference title="R1: no difference"}](led.ipynb#R1)'
    assert text.splitlines()[2] == f"[report]{{.of}} {tile}"
    assert text.count("{.of}") == 2
    assert len(glance.strip([("report", "R1", "yes")]).axes) == 1
