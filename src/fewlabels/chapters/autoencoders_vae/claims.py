"""Answers to questions A1 to A4, each from the records and the rules in `fewlabels.verdicts`.

The sheet prints no figure and asks questions. What each is taken to ask is its hypothesis in
``reference/claims.yaml``.
"""

from typing import Any

import pandas as pd

from fewlabels import comparisons, published, verdicts
from fewlabels.chapters.autoencoders_vae import results
from fewlabels.chapters.autoencoders_vae.planning import (
    SHEET_EPOCHS,
    SHEET_IMAGES,
    SHEET_WEIGHT,
    Settings,
)
from fewlabels.experiments.denoising import HELD_OUT, REPORT_NOISE, TEST_NOISE
from fewlabels.experiments.vae import CONFIDENT
from fewlabels.statistics import PairedDifference, mean_difference, mean_interval
from fewlabels.tables import number, percent
from fewlabels.verdicts import Verdict

AT_TEST = f"psnr_{TEST_NOISE:g}"


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, A1 to A4, all under protocol ``report``."""
    denoising, plane = ({"deviation": _shorter(settings, part)} for part in ("denoising", "vae"))
    scored = {
        "deviation": f"{HELD_OUT:,} of the training images are held out, and "
        f"{settings.test_images:,} test images scored."
    }
    return [
        _denoising(runs) | (scored if results.as_in_the_sheet(runs) else denoising),
        _loss(runs) | denoising,
        _weight(runs) | plane,
        _grid(runs) | plane,
    ]


def _denoising(runs: pd.DataFrame) -> dict[str, Any]:
    """A1: the sheet's network restores noise 0.4 better than the best filter does."""
    rival = results.best_filter(runs, TEST_NOISE)
    sheet = results.sheet_by_seed(runs, AT_TEST)
    gain, over_noise = (
        results.over_common(sheet, results.by_seed(runs, other, AT_TEST))
        for other in (rival, results.NOISY)
    )
    own = mean_interval([*sheet.values()])
    note = (
        f"PSNR at noise {TEST_NOISE:g} against the best filter ({rival}): {_decibel(gain)} dB; "
        f"against the noisy image {_decibel(over_noise)} dB."
    )
    return _row("A1", f"{number(own, 2)} dB", own.n, _judged("A1", gain, "dB"), note)


def _loss(runs: pd.DataFrame) -> dict[str, Any]:
    """A2: the sheet's choice, MSE, gives a higher PSNR at noise 0.4 than each other loss."""
    against = {
        loss: results.paired(runs, results.SHEET, name, AT_TEST)
        for loss, name in results.OTHER_LOSSES.items()
    }
    verdict = verdicts.everywhere(
        (f"MSE less {loss}", _judged("A2", each, "dB")) for loss, each in against.items()
    )
    figures = "; ".join(f"MSE less {loss} {_decibel(each)}" for loss, each in against.items())
    at_training = "; ".join(
        f"MSE less {loss} "
        f"{_decibel(results.paired(runs, results.SHEET, name, f'psnr_{REPORT_NOISE:g}'))}"
        for loss, name in results.OTHER_LOSSES.items()
    )
    n = min(each.n for each in against.values())
    stuck, seeds = results.black(runs, results.SIGMOID)
    note = (
        f"{verdict.reason}. At the training's noise {REPORT_NOISE:g}: {at_training} dB. With a "
        f"sigmoid, MSE ends on black images in {stuck} of {seeds} seeds."
    )
    return _row("A2", f"{figures} dB", n, verdict, note)


def _weight(runs: pd.DataFrame) -> dict[str, Any]:
    """A3: the weight matters: the plane tells more digits apart at the knee than at weight 1."""
    knee = results.knee_weight(runs)
    gain = results.paired_weights(runs, knee, SHEET_WEIGHT, "knn_accuracy")
    verdict = _judged("A3", gain)
    likely = results.best_weight(runs, "elbo_own")
    readable = results.best_weight(runs, "knn_accuracy")
    note = (
        f"Weight {knee:g} less the printed {SHEET_WEIGHT:g}: {verdict.reason}. {_collapse(runs)} "
        f"Of the weights tried, {likely:g} has the highest ELBO and {readable:g} the highest kNN "
        "accuracy."
    )
    return _row("A3", gain, None, verdict, note)


def _grid(runs: pd.DataFrame) -> dict[str, Any]:
    """A4: most cells of the grid are read with confidence, and most digits are among them.

    Both are needed: a collapsed decoder answers every cell with one image, and that may well be
    read with confidence.
    """
    printed = results.at_weight(runs, SHEET_WEIGHT)
    shares = {"cells": printed["confident"], "digits": printed["digits"] / 10}
    verdict = verdicts.everywhere(
        (f"share of {what} less a half", _judged("A4", mean_difference(share - 0.5)))
        for what, share in shares.items()
    )
    knee = results.knee_weight(runs)
    ours = results.at_weight(runs, knee)
    note = (
        f"{verdict.reason}. At the knee, weight {knee:g}, the classifier reads "
        f"{percent(comparisons.fraction(ours, 'confident'))}% of the cells with a confidence of at "
        f"least {CONFIDENT:g} and finds {number(results.digits(ours))} digits."
    )
    figures = (
        f"{percent(comparisons.fraction(printed, 'confident'))}% of the cells, "
        f"{number(results.digits(printed))} of ten digits"
    )
    return _row("A4", figures, len(printed), verdict, note)


def _judged(name: str, difference: PairedDifference, unit: str = "points") -> Verdict:
    """The answer to a question whose hypothesis is that a difference is positive."""
    margin = published.claim(name).margin_of("difference")
    return verdicts.answer(verdicts.direction(difference, +1, margin, unit))


def _collapse(runs: pd.DataFrame) -> str:
    at_one = results.at_weight(runs, SHEET_WEIGHT)
    return (
        f"At weight {SHEET_WEIGHT:g} the posterior collapses in "
        f"{(at_one['active_units'] == 0).sum()} of {len(at_one)} seeds."
    )


def _decibel(value: PairedDifference) -> str:
    return number(value, 2, sign=True)


def _shorter(settings: Settings, part: str) -> str:
    """How the training differs from the sheet's; empty where it does not."""
    given = {
        "denoising": (settings.denoising_epochs, settings.denoising_images),
        "vae": (settings.vae_epochs, settings.unlabelled),
    }
    (own, shown), full = given[part], SHEET_EPOCHS[part]
    if own == full and shown >= SHEET_IMAGES:
        return ""
    return f"Epochs times images: {own} x at most {shown:,} (the sheet: {full} x {SHEET_IMAGES:,})."


def _row(name: str, ours, n: int | None, verdict: Verdict, note: str) -> dict[str, Any]:
    note = f"{note[:1].upper()}{note[1:]}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": note}
    return row if n is None else row | {"n": n}
