"""Verdicts on claims A1 to A4, each from the records and the rule in `fewlabels.verdicts`.

The sheet prints no figure and asks questions. Each is turned into one difference whose sign decides
it; the difference is named in the claim's note.
"""

from dataclasses import replace
from typing import Any

import pandas as pd

from fewlabels import published, verdicts
from fewlabels.chapters.autoencoders_vae import results
from fewlabels.chapters.autoencoders_vae.planning import (
    SHEET_EPOCHS,
    SHEET_IMAGES,
    SHEET_WEIGHT,
    Settings,
)
from fewlabels.experiments.denoising import HELD_OUT, REPORT_NOISE, TEST_NOISE
from fewlabels.experiments.vae import CONFIDENT
from fewlabels.statistics import Interval, PairedDifference, mean_interval
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
    return _row("A1", f"{number(own, 2)} dB", own.n, decibel_verdict(gain, +1), note)


def _loss(runs: pd.DataFrame) -> dict[str, Any]:
    """A2: the sheet's choice, MSE, gives a higher PSNR at noise 0.4 than each other loss."""
    against = {
        loss: results.paired(runs, results.SHEET, name, AT_TEST)
        for loss, name in results.OTHER_LOSSES.items()
    }
    verdict = verdicts.together([decibel_verdict(each, +1) for each in against.values()])
    figures = "; ".join(f"MSE less {loss} {_decibel(each)}" for loss, each in against.items())
    at_training = "; ".join(
        f"MSE less {loss} "
        f"{_decibel(results.paired(runs, results.SHEET, name, f'psnr_{REPORT_NOISE:g}'))}"
        for loss, name in results.OTHER_LOSSES.items()
    )
    n = min(each.n for each in against.values())
    stuck, seeds = results.black(runs, results.SIGMOID)
    note = (
        "Taken as: MSE, the sheet's loss, with a linear output beats both others in PSNR at noise "
        f"{TEST_NOISE:g}. At the training's noise {REPORT_NOISE:g}: {at_training} dB. With a "
        f"sigmoid, MSE ends on black images in {stuck} of {seeds} seeds."
    )
    return _row("A2", f"{figures} dB", n, verdict, note)


def _weight(runs: pd.DataFrame) -> dict[str, Any]:
    """A3: the weight matters: the plane tells more digits apart at the knee than at weight 1."""
    knee = results.knee_weight(runs)
    gain = results.paired_weights(runs, knee, SHEET_WEIGHT, "knn_accuracy")
    verdict = verdicts.direction(gain, +1)
    likely = results.best_weight(runs, "elbo_own")
    readable = results.best_weight(runs, "knn_accuracy")
    note = (
        f"Taken as: the plane separates digits better at the knee, weight {knee:g}, than at the "
        f"printed {SHEET_WEIGHT:g} (kNN accuracy, points). {_collapse(runs)} Of the weights tried, "
        f"{likely:g} has the highest ELBO and {readable:g} the highest kNN accuracy. "
    )
    return _row("A3", gain, None, verdict, note)


def _grid(runs: pd.DataFrame) -> dict[str, Any]:
    """A4: most cells of the grid are read with confidence, and most digits are among them.

    Both are needed: a collapsed decoder answers every cell with one image, and that may well be
    read with confidence.
    """
    printed = results.at_weight(runs, SHEET_WEIGHT)
    shares = (mean_interval(printed["confident"]), mean_interval(printed["digits"] / 10))
    verdict = verdicts.together([verdicts.direction(_less_half(share), +1) for share in shares])
    knee = results.knee_weight(runs)
    ours = results.at_weight(runs, knee)
    note = (
        f"Taken as: a classifier reads more than half of the cells with a confidence of at least "
        f"{CONFIDENT:g}, and more than half of the ten digits in them, at the printed weight "
        f"{SHEET_WEIGHT:g}. At the knee, weight {knee:g}, it reads "
        f"{percent(mean_interval(ours['confident']))}% of the cells and finds "
        f"{number(mean_interval(ours['digits']))} digits."
    )
    figures = (
        f"{percent(shares[0])}% of the cells, {number(mean_interval(printed['digits']))} of ten "
        "digits"
    )
    return _row("A4", figures, len(printed), verdict, note)


def _less_half(share: Interval) -> Interval:
    return replace(share, mean=share.mean - 0.5, low=share.low - 0.5, high=share.high - 0.5)


def decibel_verdict(difference: PairedDifference, claimed: int) -> Verdict:
    """`fewlabels.verdicts.direction` with its reason in dB instead of percentage points."""
    word = verdicts.direction(difference, claimed).word
    return Verdict(word, f"difference {_decibel(difference)} dB (n = {difference.n})")


def _collapse(runs: pd.DataFrame) -> str:
    at_one = results.at_weight(runs, SHEET_WEIGHT)
    return (
        f"At weight {SHEET_WEIGHT:g} the posterior collapses in "
        f"{(at_one['active_units'] == 0).sum()} of {len(at_one)} seeds."
    )


def _decibel(value: Interval | PairedDifference) -> str:
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
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": note.strip()}
    return row if n is None else row | {"n": n}
