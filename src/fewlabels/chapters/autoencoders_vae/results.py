"""Chapter 7's records as frames: what its tables, figures and verdicts are made from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fewlabels import comparisons
from fewlabels.chapters import rotnet_mnist
from fewlabels.chapters.autoencoders_vae import planning
from fewlabels.chapters.autoencoders_vae.planning import Settings
from fewlabels.chapters.rotnet_mnist import results as chapter_one
from fewlabels.errors import UserError
from fewlabels.runs import Experiment, Record
from fewlabels.statistics import (
    FEWEST,
    Interval,
    PairedDifference,
    fraction_interval,
    paired_difference,
)
from fewlabels.sweep import run_all
from fewlabels.variational import knee

CONFIGURED = (
    "network",
    "loss",
    "output",
    "noise",
    "level",
    "weight",
    "latents",
    "filter",
    "seed",
    "draw",
)
SHEET = "sheet: MSE, linear, fixed noise 0.2"
SIGMOID = "sheet: MSE, sigmoid, fixed noise 0.2"
OTHER_LOSSES = {
    "BCE, sigmoid": "sheet: BCE, sigmoid, fixed noise 0.2",
    "L1, linear": "sheet: L1, linear, fixed noise 0.2",
}
"""The losses beside MSE, each with its last activation -> the method's name."""
FRESH = "sheet: MSE, linear, fresh noise 0.4"
MIXED = "sheet: MSE, linear, mixed noise to 0.8"
UNET = "U-Net: MSE, linear, mixed noise to 0.8"
NOISY = "noisy image"
LOSSES = {"mse": "MSE", "bce": "BCE", "l1": "L1"}


def measure(settings: Settings) -> pd.DataFrame:
    """One row per run of the chapter; runs that are missing are computed first.

    Columns: those of the cell, ``kind``, ``name`` (as tables call it), ``steps``, ``long`` (trained
    for the sheet's number of epochs), the settings in ``CONFIGURED`` where the run has them, every
    metric and the ``record`` itself.
    """
    runs = planning.plan(settings)
    own = planning.store(settings)
    records = run_all(runs, own, settings.device, settings.precision, settings.workers)
    long = [*planning.long_denoising(settings), *planning.long_planes(settings)]
    return frame(runs, records, {run.id for run in long})


def frame(
    runs: Sequence[Experiment], records: Sequence[Record | None], long: set[str]
) -> pd.DataFrame:
    """The rows of :func:`measure` for records at hand; runs without a record are left out."""
    rows = []
    for run, record in zip(runs, records, strict=True):
        if record is None:
            continue
        config = record.config
        facts = {key: config[key] for key in CONFIGURED if key in config}
        facts |= {"kind": run.kind, "record": record, "seconds": record.seconds}
        facts |= {"steps": (config.get("training") or {}).get("steps"), "long": record.id in long}
        rows.append(record.cell | facts | {"name": _name(record)} | record.metrics)
    return pd.DataFrame(rows)


def _name(record: Record) -> str:
    config = record.config
    if config["kind"] != "denoising":
        return record.cell["method"]
    network = {"sheet": "sheet", "u-net": "U-Net"}[config["network"]]
    to = "to " if config["noise"] == "mixed" else ""
    loss = f"{LOSSES[config['loss']]}, {config['output']}"
    return f"{network}: {loss}, {config['noise']} noise {to}{config['level']:g}"


def denoisers(runs: pd.DataFrame) -> pd.DataFrame:
    """Every method scored at all levels, networks of our number of epochs and filters."""
    networks = (runs["kind"] == "denoising") & (runs["steps"] > 0) & ~runs["long"]
    return runs[networks | (runs["kind"] == "filter")]


def long_denoisers(runs: pd.DataFrame) -> pd.DataFrame:
    """The sheet's network under all of its settings, its 20 epochs included."""
    return runs[(runs["kind"] == "denoising") & runs["long"]]


def black(runs: pd.DataFrame, name: str) -> tuple[int, int]:
    """Seeds of a network that answer every image with black, and all of its seeds.

    Black: the error hardly differs between the weakest and the strongest noise, because the answer
    does not depend on the image.
    """
    rows = denoisers(runs).query("name == @name")
    errors = rows[[column for column in rows if column.startswith("mse_")]].dropna(axis=1)
    stuck = (errors.max(axis=1) - errors.min(axis=1)) < 1e-3 * errors.max(axis=1)
    return int(stuck.sum()), len(rows)


def by_seed(runs: pd.DataFrame, name: str, column: str) -> dict[int, float]:
    """Seed -> value of one denoising method."""
    rows = denoisers(runs).query("name == @name")
    return dict(zip(rows["seed"], rows[column], strict=True))


def sheet_by_seed(runs: pd.DataFrame, column: str) -> dict[int, float]:
    """Seed -> value of the sheet's network: of its own 20 epochs where enough were run."""
    if not as_in_the_sheet(runs):
        return by_seed(runs, SHEET, column)
    rows = long_denoisers(runs)
    return dict(zip(rows["seed"], rows[column], strict=True))


def as_in_the_sheet(runs: pd.DataFrame) -> bool:
    """Whether there are enough runs with all of the sheet's settings to decide by them."""
    return len(long_denoisers(runs)) >= FEWEST


def paired(runs: pd.DataFrame, name: str, other: str, column: str) -> PairedDifference:
    """``name`` minus ``other`` over the seeds both have, which share the noise on test images."""
    return over_common(by_seed(runs, name, column), by_seed(runs, other, column))


def over_common(first: dict[int, float], second: dict[int, float]) -> PairedDifference:
    """``first`` minus ``second`` over the seeds both have."""
    common = sorted(first.keys() & second.keys())
    return paired_difference({s: first[s] for s in common}, {s: second[s] for s in common})


def best_filter(runs: pd.DataFrame, level: float) -> str:
    """The filter with the highest mean PSNR on test images at this level.

    Its advantage of being the best of several is the filters', not the networks'.
    """
    rows = runs[(runs["kind"] == "filter") & (runs["name"] != NOISY)]
    return rows.groupby("name")[f"psnr_{level:g}"].mean().idxmax()


def over_levels(runs: pd.DataFrame, metric: str, levels: Sequence[float]) -> pd.DataFrame:
    """Long: name, level, and mean, low, high, n of the metric over seeds."""
    rows = []
    for name, group in denoisers(runs).groupby("name", sort=False):
        for level in levels:
            interval = comparisons.mean(group, f"{metric}_{level:g}")
            rows.append({"name": name, "level": level} | _bounds(interval))
    return pd.DataFrame(rows)


def _bounds(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def planes(runs: pd.DataFrame) -> pd.DataFrame:
    """The sheet's VAE for our number of epochs, by ascending weight."""
    return runs[(runs["kind"] == "vae") & ~runs["long"]].sort_values(["weight", "seed"])


def long_planes(runs: pd.DataFrame) -> pd.DataFrame:
    """The sheet's VAE for its 15 epochs, one run for a weight."""
    return runs[(runs["kind"] == "vae") & runs["long"]].sort_values("weight")


def rate_distortion(runs: pd.DataFrame) -> pd.DataFrame:
    """Per weight: means over seeds of rate and distortion, on test and on held-out images.

    Columns: weight, kl, mse (test), valid_kl, valid_mse; ascending weight.
    """
    rows = []
    for weight, group in planes(runs).groupby("weight"):
        held = {
            name: np.mean([record.curves[name][-1] for record in group["record"]])
            for name in ("valid_kl", "valid_mse")
        }
        rows.append({"weight": weight, "kl": group["kl"].mean(), "mse": group["mse"].mean()} | held)
    return pd.DataFrame(rows)


def knee_weight(runs: pd.DataFrame) -> float:
    """The weight at the knee of the curve of the held-out images."""
    curve = rate_distortion(runs)
    return float(curve["weight"].iloc[knee(curve["valid_kl"], curve["valid_mse"])])


def best_weight(runs: pd.DataFrame, metric: str) -> float:
    """The weight with the highest mean of a metric on test images."""
    return float(planes(runs).groupby("weight")[metric].mean().idxmax())


def at_weight(runs: pd.DataFrame, weight: float) -> pd.DataFrame:
    """The seeds of one weight, for our number of epochs."""
    return planes(runs).query("weight == @weight")


def digits(rows: pd.DataFrame) -> Interval:
    """Mean number of different digits that are found in a grid, out of ten."""
    share = fraction_interval(rows["digits"] / 10, comparisons.luck(rows))
    return Interval(10 * share.mean, 10 * share.low, 10 * share.high, share.n, share.method)


def paired_weights(
    runs: pd.DataFrame, weight: float, other: float, column: str
) -> PairedDifference:
    """One weight minus another over the seeds, which share initial weights and batches."""
    first, second = (
        at_weight(runs, each).set_index("seed")[column].to_dict() for each in (weight, other)
    )
    return paired_difference(first, second)


def pictured(runs: pd.DataFrame, weight: float) -> Record:
    """The first seed's record at a weight: the one that keeps pictures."""
    rows = at_weight(runs, weight)
    if rows.empty:
        raise UserError(f"no run of weight {weight:g}: choose one of the parameter weights.")
    return rows.set_index("seed")["record"].loc[0]


def chapter_one_digits(settings: Settings) -> pd.DataFrame:
    """Chapter 1's runs beside the probes, from the book's records; empty without them."""
    planned = planning.chapter_one(settings)
    stored = rotnet_mnist.store(rotnet_mnist.Settings())
    return chapter_one.frame(planned, [stored.get(run) for run in planned])


def probes(runs: pd.DataFrame) -> pd.DataFrame:
    """Probes on the denoising code, on the untrained network's and on pixels."""
    return runs[runs["kind"] == "code"]
