"""How far runs lie apart and for which reason, and how unsteady a learning curve is."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fewlabels.errors import UserError


def deviations(values: pd.DataFrame) -> pd.Series:
    """Standard deviation of a single run by its source, in the unit of the values.

    Convention: roots of unbiased variances (`variance_components`), negative ones counting as 0.

    values: [label draws, seeds], fully crossed. The sources are the label draw, the seed, and the
    interaction with the rest; their squares add up to that of ``one run``. All are nan where there
    are fewer than two draws or seeds. Raises UserError for values that are not finite.
    """
    parts = dict.fromkeys(("draw", "seed", "residual"), math.nan)
    if min(values.shape) > 1:
        parts = variance_components(values.to_numpy())
    variances = {
        "label draw": parts["draw"],
        "seed": parts["seed"],
        "interaction and rest": parts["residual"],
        "one run": sum(parts.values()),
    }
    return pd.Series(variances) ** 0.5


def variance_components(values: ArrayLike) -> dict[str, float]:
    """Variance due to the label draw, to the seed, and the rest, from fully crossed runs.

    Two-way random-effects ANOVA with one run per cell, by equating mean squares with their
    expectations; negative estimates are set to 0. With one run per cell, the interaction of draw
    and seed cannot be told from the residual.

    Convention: mean squares over their degrees of freedom (ddof 1). values: [draws, seeds], at
    least 2 x 2, finite; UserError otherwise. Returns ``draw``, ``seed``, ``residual``, in the
    values' unit squared.
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise UserError(
            f"values has shape {table.shape}: pass [draws, seeds] with at least two of each."
        )
    if not np.isfinite(table).all():
        raise UserError("values holds nan or inf: every draw has to be run with every seed.")
    draws, seeds = table.shape
    by_draw, by_seed = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_draw[:, None] - by_seed + table.mean()
    residual = float((rest**2).sum() / ((draws - 1) * (seeds - 1)))
    return {
        "draw": max(float(by_draw.var(ddof=1)) - residual / seeds, 0.0),
        "seed": max(float(by_seed.var(ddof=1)) - residual / draws, 0.0),
        "residual": residual,
    }


def roughness(curve: Sequence[float]) -> float:
    """Mean distance of a curve's points from the mean of their neighbours, in the curve's unit.

    Convention: over the second half of its points (of an odd number the longer one), absolute
    distances; a steady rise has none. nan where that half has fewer than three points.
    """
    late = np.asarray(curve, dtype=float)[len(curve) // 2 :]
    if len(late) < 3:
        return math.nan
    return float(np.abs(late[1:-1] - (late[:-2] + late[2:]) / 2).mean())
