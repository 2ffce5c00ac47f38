"""Verdicts on claims E1 to E6, each from the records and the rules in `fewlabels.verdicts`."""

from typing import Any

import pandas as pd

from fewlabels import comparisons, data, published
from fewlabels.chapters.rotation_equivariance import results
from fewlabels.chapters.rotation_equivariance.planning import SLOWEST_SHOWN, Settings
from fewlabels.statistics import mean_difference
from fewlabels.tables import NOT_RUN, number
from fewlabels.verdicts import Verdict, at_most, direction, everywhere

ROUND_OFF = 1e-5
"""Relative errors below this are the rounding of 32-bit arithmetic."""
LEARNED = 0.05
"""A run that takes less than this share off the error of a constant angle has not learned."""
SOURCE_EPOCHS = 50
NETWORKS = {"mlp": "MLP", "cnn": "CNN"}


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, E1 to E6."""
    return [
        _rates("E1", runs, settings, "mlp"),
        _rates("E2", runs, settings, "cnn"),
        _test_below_training(runs),
        _shift(runs) | {"protocol": "tuned"},
        _turn(runs) | {"protocol": "tuned"},
        _time(runs, settings),
    ]


def tiny(value: float) -> str:
    """A small number as its first digit and power of ten: ``3e-7``."""
    return f"{value:.0e}".replace("e-0", "e-") if value else "0"


def _at_most(value: float) -> str:
    return f"at most {tiny(value)}" if value else "0"


def _row(name: str, ours: str | None, n: int, verdict: Verdict, note: str = "") -> dict[str, Any]:
    note = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": note}
    return row if ours is None else row | {"n": n}


def _rates(name: str, runs: pd.DataFrame, settings: Settings, network: str) -> dict[str, Any]:
    """E1 and E2: 1e-2 and 1e-8 are both worse than 1e-4, and 1e-8 does not learn."""
    middle, high, low = (
        results.at_rate(runs, network, rate) for rate in (1e-4, 1e-2, SLOWEST_SHOWN)
    )
    margin = published.claim(name).margin_of("difference")
    parts = []
    for rate, rows in (("1e-2", high), ("1e-8", low)):
        gap = results.difference(rows, middle, "mae")
        parts.append((f"{rate} against 1e-4", direction(gap, +1, margin, "degrees")))
    if not len(low) or not len(middle):
        return _row(name, None, 0, everywhere(parts))
    guess = number(low["mae_of_the_mean"].mean())
    gains = low["mae_of_the_mean"] - low["mae"]
    gain = mean_difference(gains)
    beyond = mean_difference(gains - LEARNED * low["mae_of_the_mean"])
    limit = f"1e-8's gain on a constant angle, less {100 * LEARNED:g}% of its error"
    parts.append((limit, at_most(beyond, 0, "degrees")))
    note = (
        f"The mean training angle, said for every image, is {guess}° off; 1e-8 gains "
        f"{number(gain, sign=True)}° on it. Runs that do not gain 1%: {results.constant(high)} of "
        f"{len(high)} at 1e-2, {results.constant(low)} of {len(low)} at 1e-8."
    )
    ours = "; ".join(
        f"{rate}: {number(comparisons.mean(rows, 'mae'))}°"
        for rate, rows in (("1e-2", high), ("1e-4", middle), ("1e-8", low))
        if len(rows)
    )
    row = _row(name, ours, len(middle), everywhere(parts), note)
    return row | {"deviation": _deviation(settings, network)}


def _deviation(settings: Settings, network: str) -> str:
    """What the source did and this run did not, from the parameters."""
    epochs, images = settings.epochs, getattr(settings, f"{network}_images")
    size = data.train_size(settings.dataset)
    said = []
    if epochs != SOURCE_EPOCHS:
        said.append(f"for {epochs} of the source's {SOURCE_EPOCHS} epochs")
    if images < size:
        said.append(f"on {images:,} of the {size:,} training images")
    return f"Trained {' and '.join(said)}." if said else ""


def _test_below_training(runs: pd.DataFrame) -> dict[str, Any]:
    """E3: test below training at 1e-8, in loss and in absolute error, for both networks."""
    claim = published.claim("E3")
    margins = {"loss": claim.margin_of("loss"), "mae": claim.margin_of("difference")}
    cells, ours = [], []
    for network, name in NETWORKS.items():
        rows = results.at_rate(runs, network, SLOWEST_SHOWN)
        for metric, written, unit, decimals in (("loss", "loss", "", 3), ("mae", "MAE", "°", 2)):
            gaps = results.gaps(rows, metric)
            found = comparisons.of_gaps(gaps, rows, by="seed") if gaps else None
            verdict = direction(found, -1, margins[metric], "degrees" if unit else "in loss")
            cells.append((f"{name}, {written}: {_lower(gaps)}", verdict))
            if found is not None:
                ours.append(f"{name}: {written} {number(found, decimals, sign=True)}{unit}")
    luck = results.splits(runs)
    note = ""
    if len(luck):
        note = (
            f"Over {_drawn(luck):,} random splits of the same outputs the test loss is the lower "
            f"one in {100 * luck['loss_lower'].mean():.0f}%."
        )
    n = len(results.at_rate(runs, "mlp", SLOWEST_SHOWN))
    return _row("E3", "; ".join(ours) or None, n, everywhere(cells), note)


def _lower(gaps: dict[int, float]) -> str:
    return f"lower for {sum(gap < 0 for gap in gaps.values())} of {len(gaps)} seeds"


def _drawn(luck: pd.DataFrame) -> int:
    """Both networks of a seed are scored on the same splits."""
    configs = [record.config for record in luck["record"]]
    return sum({config["start"]["seed"]: config["splits"] for config in configs}.values())


def _shift(runs: pd.DataFrame) -> dict[str, Any]:
    """E4: no error inside the border, an error at it; convolutions with stride 1."""
    stacks = [results.equivariance(runs, padding=padding) for padding in ("none", "zeros")]
    rows = pd.concat(stacks)
    if not len(rows):
        return _row("E4", None, 0, Verdict("not tested", NOT_RUN))
    inside, outside = rows["shift_inside_5"], rows["shift_outside_5"]
    # Stacks of one seed share initial weights and images: they count once.
    gaps = (outside - inside).groupby(rows["seed"]).mean()
    border = direction(mean_difference(gaps), +1, published.claim("E4").margin_of("difference"))
    worst = inside.max()
    exact = Verdict(
        "holds" if worst < ROUND_OFF else "opposite",
        f"{_at_most(worst)}, where rounding is below {tiny(ROUND_OFF)}",
    )
    if border.word == "not tested":
        exact = border
    striding = results.equivariance(runs, padding="circular", down="stride")
    note = "Means over stacks with padding and without, before training and after."
    if len(striding):
        note += (
            " Without a border, but with strides, the error is "
            f"{100 * striding['shift_all_5'].mean():.0f}%: the claim is one on stride 1."
        )
    ours = f"inside {_at_most(worst)}, at the border {100 * outside.mean():.0f}%"
    parts = [("inside", exact), ("border minus inside", border)]
    return _row("E4", ours, len(gaps), everywhere(parts), note)


def _turn(runs: pd.DataFrame) -> dict[str, Any]:
    """E5: the error of plain convolutions at 90 degrees beside that of equivariant ones."""
    plain, c4 = (results.equivariance(runs, group=group) for group in ("plain", "c4"))
    if not len(plain) or not len(c4):
        return _row("E5", None, 0, Verdict("not tested", NOT_RUN))
    # One row per seed before training and one after: a seed counts once.
    mean, other = (
        rows.groupby("seed", as_index=False)["degrees_disc_90"].mean() for rows in (plain, c4)
    )
    margin = published.claim("E5").margin_of("difference")
    verdict = direction(results.difference(mean, other, "degrees_disc_90"), +1, margin)
    ours = (
        f"plain {100 * plain['degrees_disc_90'].mean():.0f}%, C4 at most "
        f"{tiny(100 * c4['degrees_disc_90'].max())}%"
    )
    note = "Plain minus C4, means over the networks before training and after."
    return _row("E5", ours, len(mean), verdict, note)


def _time(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """E6 is about the source's machine, which is not at hand."""
    verdict = Verdict("not tested", "seconds on the source's machine, which it does not describe")
    ours, n = [], 0
    for network, name in NETWORKS.items():
        rows = results.report(runs, network)
        if len(rows):
            seconds = rows["seconds"]
            images = min(getattr(settings, f"{network}_images"), data.train_size(settings.dataset))
            ours.append(
                f"{name} {seconds.min():.0f} to {seconds.max():.0f} s for {settings.epochs} epochs "
                f"of {images:,} images"
            )
            n += len(rows)
    note = "Ours are wall seconds, with the scoring, beside other work on the machine."
    return _row("E6", "; ".join(ours) or None, n, verdict, note)
