"""How often the book's intervals and verdicts are right, simulated: ``benchmarks/coverage.csv``.

    python benchmarks/coverage.py [--samples 2000]

writes the table, and Markdown made from it into the appendix "Protocol and statistics". Some
minutes on one core with the default. Every number is a percentage of samples; with 2,000 of them it
has a standard error of 0.5 at 95 and 5, of 1.1 at 50.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pages
import pandas as pd
from numpy.random import Generator

from fewlabels.evidence import statistics, tables, verdicts
from fewlabels.evidence.statistics import fraction_interval, mean_difference, mean_interval
from fewlabels.evidence.verdicts import Printed
from fewlabels.reference import published
from fewlabels.reference.published import Claim

SIZES = (3, 5, 6, 10, 20)
SEED = 20261127
TABLE = Path(__file__).with_suffix(".csv")
Draw = Callable[[Generator, int], np.ndarray]


def collapsed(rng: Generator, n: int) -> np.ndarray:
    """Accuracies around 90%, of which 4% fall to 25%."""
    return np.where(rng.random(n) < 0.04, 0.25, rng.normal(0.9, 0.01, n))


REAL: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0.0),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "log-normal, sigma 1": (lambda rng, n: rng.lognormal(0, 1, n), float(np.exp(0.5))),
}
"""Values in any unit and their mean."""
FRACTIONS: dict[str, tuple[Draw, float]] = {
    "normal around 75%": (lambda rng, n: rng.normal(0.75, 0.04, n), 0.75),
    "beta, mean 97%": (lambda rng, n: rng.beta(58.2, 1.8, n), 0.97),
    "beta, mean 5%": (lambda rng, n: rng.beta(1, 19, n), 0.05),
    "54 images, 98% right": (lambda rng, n: rng.binomial(54, 0.98, n) / 54, 0.98),
    "90%, 4% of runs collapse": (collapsed, 0.96 * 0.9 + 0.04 * 0.25),
    "90%, runs that learn": (lambda rng, n: rng.normal(0.9, 0.01, n), 0.9),
}
"""Values in 0..1 and their mean."""


def covers(interval: statistics.Interval, truth: float) -> float:
    """Whether an interval holds the truth; nan where there is none."""
    return np.nan if np.isnan(interval.low) else float(interval.low <= truth <= interval.high)


def intervals(samples: int) -> Iterator[tuple[str, str, str, float]]:
    """Rows of the first half: interval, values, n, coverage."""
    for n in SIZES:
        for name, (draw, truth) in REAL.items():
            found = [covers(mean_interval(draw(rng, n)), truth) for rng in streams(samples)]
            yield "mean, t", name, str(n), share(found)
        for name, (draw, truth) in FRACTIONS.items():
            values = [draw(rng, n + 1) for rng in streams(samples)]
            found = [covers(fraction_interval(each[:n]), truth) for each in values]
            yield "mean of fractions, t on the logit scale", name, str(n), share(found)
            found = [covers(mean_interval(each[:n]), truth) for each in values]
            yield "the same without the logit scale", name, str(n), share(found)
            clipped = np.clip(values, 0, 1)
            found = [covers(statistics.prediction_interval(v[:n]), v[n]) for v in clipped]
            yield "one further run", name, str(n), share(found)
    for networks, draws in ((3, 20), (6, 10)):
        luck = [str(k % networks) for k in range(draws)]
        values = [nested(rng, luck) for rng in streams(samples)]
        where = f"{draws} draws on {networks} networks"
        found = [covers(mean_interval(each, luck), 0.0) for each in values]
        name = "intraclass correlation 0.77"
        yield "mean over networks, t", name, where, share(found)
        found = [covers(mean_interval(each), 0.0) for each in values]
        yield "the same with draws counted", name, where, share(found)
    for accuracy in (0.75, 0.986):
        for splits in (8, 12, 20):
            values = [resplit(rng, accuracy, splits) for rng in streams(samples)]
            name, where = f"accuracy {100 * accuracy:g}%, 60 photographs", f"{splits} splits"
            found = [covers(fraction_interval(v, test_to_train=18 / 42), accuracy) for v in values]
            yield "overlapping splits, corrected", name, where, share(found)
            found = [covers(fraction_interval(v), accuracy) for v in values]
            yield "overlapping splits, not corrected", name, where, share(found)
    for truth, n in ((0.3, 6), (0.3, 10), (0.9, 6), (0.9, 10)):
        found = [
            covers(statistics.share_interval(rng.random(n) < truth), truth)
            for rng in streams(samples)
        ]
        yield "share, Wilson", f"{100 * truth:g}% of runs learn", f"{n} runs", share(found)


def rates(samples: int) -> Iterator[tuple[str, str, str, float]]:
    """Rows of the second half: verdict, truth, n, how often it is given."""
    for n in SIZES:
        for figures in (1, 4):
            found = [
                any(each.word == "contradicted" for each in printed(rng, n, figures))
                for rng in streams(samples)
            ]
            counted = "one figure" if figures == 1 else f"{figures} figures"
            yield "contradicted", f"runs alike, {counted}", str(n), share(found)
        found = [
            printed(rng, n, 1, apart=3, scatter=0.3)[0].word == "agrees" for rng in streams(samples)
        ]
        yield "agrees", "runs apart by the margin, spread a tenth of it", str(n), share(found)
        found = [printed(rng, n, 1)[0].word == "agrees" for rng in streams(samples)]
        yield "agrees", "runs alike, spread a third of the margin", str(n), share(found)
        for effect in (0, 1, 2, 3):
            words = [signed(rng, n, effect).word for rng in streams(samples)]
            truth = f"difference of {effect} standard deviation{'s' * (effect != 1)}"
            yield "holds", truth, str(n), share(word == "holds" for word in words)
            if not effect:
                yield "opposite", truth, str(n), share(word == "opposite" for word in words)
        words = [signed(rng, n, 1, margin=1).word for rng in streams(samples)]
        found = [word == "no difference" for word in words]
        yield "no difference", "a difference of the margin", str(n), share(found)
        found = [
            verdicts.at_most(mean_difference(rng.normal(1, 1, n)), 1, "sd").word == "holds"
            for rng in streams(samples)
        ]
        yield "holds, at most the margin", "a difference of the margin", str(n), share(found)
        found = [
            verdicts.everywhere((str(k), signed(rng, n, 0)) for k in range(16)).word == "opposite"
            for rng in streams(samples // 10)
        ]
        yield "opposite, of 16 cells", "no difference in any", str(n), share(found)


def printed(
    rng: Generator, n: int, figures: int, apart: float = 0, scatter: float = 1
) -> list[verdicts.Verdict]:
    """Verdicts on figures of a source whose runs scatter as ours do, ``apart`` from ours."""
    keys = [f"accuracy_{k}" for k in range(figures)]
    theirs = {key: float(rng.normal(apart, scatter)) for key in keys}
    claim = Claim("X", "", "", "", theirs, "", kind="figure")
    parts = [Printed(key, rng.normal(0, scatter, n), 1e-9) for key in keys]
    return verdicts.printed_figures(claim, parts)


def signed(rng: Generator, n: int, effect: float, margin: float = 0.5) -> verdicts.Verdict:
    return verdicts.direction(mean_difference(rng.normal(effect, 1, n)), +1, margin, "sd")


def nested(rng: Generator, luck: list[str]) -> np.ndarray:
    """Values of variance 1, of which networks make 0.77."""
    among = dict(zip(sorted(set(luck)), rng.normal(0, 0.77**0.5, len(set(luck))), strict=True))
    return np.array([among[unit] for unit in luck]) + rng.normal(0, 0.23**0.5, len(luck))


def resplit(rng: Generator, accuracy: float, splits: int) -> np.ndarray:
    """Accuracies over random splits of 60 photographs, each of which is right or is not."""
    right = rng.random(60) < accuracy
    return np.array([right[rng.permutation(60)[:18]].mean() for _ in range(splits)])


def streams(samples: int) -> Iterator[Generator]:
    """One generator per sample, the same for every row."""
    return (np.random.default_rng([SEED, k]) for k in range(samples))


def share(found: Iterable[float]) -> float:
    """Percentage of yes among those that are known, to one decimal."""
    return round(100 * float(np.nanmean([*found])), 1)


def table(frame: pd.DataFrame, headings: tuple[str, str], caption: str, label: str) -> tables.Table:
    """Rows of one kind with a column for every n."""
    wide = frame.pivot_table(index=["what", "of"], columns="n", values="percent", sort=False)
    wide = wide.map(lambda value: f"{value:.1f}").rename_axis(None, axis=1).reset_index()
    wide = wide.rename(columns={"what": headings[0], "of": headings[1]})
    return tables.show(
        wide.rename(columns=lambda name: name if name in headings else f"n = {name}"),
        label,
        caption,
    )


def page(frame: pd.DataFrame) -> dict[str, tables.Table]:
    """The tables of the appendix, by their label."""
    coverage, few = (
        frame[(frame["half"] == "interval") & (frame["n"].isin(map(str, SIZES)) == plain)]
        for plain in (True, False)
    )
    rates = frame[frame["half"] == "verdict"]
    few = few.assign(of=few["of"] + ", " + few["n"], n="coverage")
    made = [
        table(
            coverage,
            ("Interval", "Values"),
            "How many percent of the 95% intervals hold the truth, or the next run, by n, the "
            "number of runs; samples in which all runs agree have no interval and do not count.",
            "tbl-coverage",
        ),
        tables.show(
            few.rename(columns={"what": "Interval", "of": "Values", "percent": "Coverage, %"})[
                ["Interval", "Values", "Coverage, %"]
            ],
            "tbl-coverage-units",
            "The same where runs share a network, where splits overlap, and for shares.",
        ),
        table(
            rates,
            ("Verdict", "Truth"),
            "In how many percent of samples a verdict is given, by the truth and n. Where it would "
            "be wrong, the rules allow 5. 2,000 samples, 200 in the last row: "
            "standard errors of at most 1.1 and 3.5 points.",
            "tbl-verdict-rates",
        ),
    ]
    return {each.label: each for each in [*made, margins()]}


def margins() -> tables.Table:
    """Every margin and its reason, as ``reference/claims.yaml`` has them."""
    rows = [
        {"Of": f"{kind}, unless a claim says otherwise", "Margin": f"{each['margin']:g}"}
        | {"Why": each["why"]}
        for kind, each in published.margins().items()
    ]
    for id, claim in published.claims().items():
        for kind, value in claim.margin.items():
            rows.append({"Of": f"{id}: {kind}", "Margin": f"{value:g}", "Why": claim.margin_why})
    return tables.show(
        pd.DataFrame(rows), "tbl-margins", "The margins, as decided before they were applied."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    samples = parser.parse_args().samples
    rows = [("interval", *row) for row in intervals(samples)]
    rows += [("verdict", *row) for row in rates(samples)]
    frame = pd.DataFrame(rows, columns=["half", "what", "of", "n", "percent"])
    frame.to_csv(TABLE, index=False)
    for label, made in page(frame).items():
        pages.put(label, str(made), pages.STATISTICS)


if __name__ == "__main__":
    main()
