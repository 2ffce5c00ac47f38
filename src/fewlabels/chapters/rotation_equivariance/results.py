"""Chapter 2's records as frames: what its tables, figures and verdicts are made from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fewlabels import comparisons
from fewlabels.chapters.rotation_equivariance import planning
from fewlabels.chapters.rotation_equivariance.planning import Settings
from fewlabels.runs import Experiment, Record
from fewlabels.statistics import PairedDifference
from fewlabels.sweep import run_all


def measure(settings: Settings) -> pd.DataFrame:
    """One row per run of the chapter; runs that are missing are computed first.

    Columns: those of the cell (dataset, labels, method, backbone, protocol), ``kind``, ``network``,
    ``output``, ``span``, ``rate``, ``steps``, ``images``, ``fresh``, ``scored_on``, ``seed``,
    ``id``, ``seconds``, every metric (errors in degrees) and the ``record`` itself. For kinds that
    start from a regression these are the regression's.
    """
    runs = planning.plan(settings)
    own = planning.store(settings)
    records = run_all(runs, own, settings.device, settings.precision, settings.workers)
    return frame(runs, records)


def frame(runs: Sequence[Experiment], records: Sequence[Record | None]) -> pd.DataFrame:
    """The rows of :func:`measure` for records at hand; runs without a record are left out."""
    rows = []
    for run, record in zip(runs, records, strict=True):
        if record is None:
            continue
        start = getattr(run, "start", run)
        facts = {
            "kind": run.kind,
            "network": start.network.kind,
            "output": start.output,
            "span": start.span,
            "rate": start.training.rate,
            "steps": start.training.steps,
            "images": start.images,
            "fresh": start.fresh,
            "scored_on": start.scored_on,
            "seed": start.seed,
            "id": record.id,
            "seconds": record.seconds,
            "record": record,
        }
        rows.append(record.cell | facts | record.metrics)
    return pd.DataFrame(rows)


def report(runs: pd.DataFrame, network: str) -> pd.DataFrame:
    """The report's ``mlp`` or ``cnn`` at all of its rates."""
    own = (runs["kind"] == "angle") & runs["protocol"].str.startswith("report")
    return runs[own & (runs["network"] == network)]


def at_rate(runs: pd.DataFrame, network: str, rate: float) -> pd.DataFrame:
    """The report's network at one rate; empty where the rate is not among the parameters."""
    rows = report(runs, network)
    return rows[np.isclose(rows["rate"], rate, rtol=1e-6, atol=0)]


def difference(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> PairedDifference | None:
    """``a`` minus ``b`` over the seeds both have, in the metric's unit; None where there are none.

    A seed is a set of angles, an order of the images and initial weights, the same in both.
    """
    return comparisons.difference(a, b, metric, by="seed")


def constant(rows: pd.DataFrame) -> int:
    """How many runs say nearly the same angle for every image: not 1% better than the mean."""
    return int((rows["mae"] > 0.99 * rows["mae_of_the_mean"]).sum())


def curves(rows: pd.DataFrame, settings: Settings, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A learning curve of protocol ``report`` over runs of one rate: epochs [E], values [runs, E].

    ``name`` is ``shown_loss``, ``shown_mae``, ``test_loss`` or ``test_mae``; the first value is
    that before training.
    """
    found = [record.curves for record in rows["record"]]
    steps = rows["steps"].iloc[0]
    epochs = np.array([0.0, *found[0]["step"]]) * settings.epochs / steps
    return epochs, np.array([each[f"{name}_before"] + each[name] for each in found])


def gaps(rows: pd.DataFrame, metric: str) -> dict[int, float]:
    """Test minus training ``loss`` or ``mae`` by seed."""
    return {
        run.seed: getattr(run, f"test_{metric}") - getattr(run, f"shown_{metric}")
        for run in rows.itertuples()
    }


def splits(runs: pd.DataFrame) -> pd.DataFrame:
    """The random splits, one row per network and seed."""
    return runs[runs["kind"] == "splits"]


def split_differences(runs: pd.DataFrame, network: str, metric: str = "loss") -> np.ndarray:
    """Test minus training over all random splits of all seeds, in the order of the seeds."""
    own = splits(runs)
    own = own[own["network"] == network].sort_values("seed")
    name = f"{metric}_difference"
    return np.concatenate([record.predictions[name].astype(float) for record in own["record"]])


def tuned(runs: pd.DataFrame, scored_on: str = "test") -> pd.DataFrame:
    """Our regressions, without the stacks that equivariance is measured on."""
    own = (runs["kind"] == "angle") & runs["protocol"].str.startswith("tuned")
    own &= ~runs["network"].str.startswith("stack")
    return runs[own & (runs["scored_on"] == scored_on)]


def curve(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Error against training images at the full circle: series, images, mean, low, high, n."""
    rows = tuned(runs)
    rows = rows[
        (rows["span"] == planning.CIRCLE)
        & (rows["output"] == "circle")
        & (rows["steps"] == settings.curve_steps)
        & (rows["network"] != "resnet")
        & rows["images"].isin(settings.image_numbers)
    ]
    found = []
    for (network, fresh, images), group in rows.groupby(["network", "fresh", "images"], sort=False):
        interval = comparisons.mean(group, "mae")
        found.append(
            {"network": network, "fresh": fresh, "images": images, "mean": interval.mean}
            | {"low": interval.low, "high": interval.high, "n": interval.n}
        )
    return pd.DataFrame(found)


def outputs(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The same network with the angle as a number and on the circle, at both spans."""
    rows = tuned(runs)
    return rows[
        (rows["network"] == "cnn")
        & ~rows["fresh"].astype(bool)
        & (rows["images"] == settings.tuned_images)
        & (rows["steps"] == settings.curve_steps)
    ]


def best(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The networks chosen on validation images, with their test errors."""
    wanted = {run.id for run in planning.best_runs(settings)}
    return runs[runs["id"].isin(wanted)]


def equivariance(
    runs: pd.DataFrame,
    group: str = "plain",
    padding: str = "zeros",
    down: str = "none",
    trained: bool | None = None,
) -> pd.DataFrame:
    """Measurements of one stack, trained, untrained or (None) both."""
    name = f"stack, {group}, padding {padding}, down {down}"
    own = (runs["kind"] == "equivariance") & (runs["network"] == name)
    if trained is not None:
        own &= (runs["steps"] > 0) == trained
    return runs[own]
