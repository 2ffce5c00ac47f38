"""How far runs lie apart and for which reason, and how unsteady a learning curve is."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fewlabels.evidence.statistics import variance_components


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


def roughness(curve: Sequence[float]) -> float:
    """Mean distance of a curve's points from the mean of their neighbours, in the curve's unit.

    Convention: over the second half of its points (of an odd number the longer one), absolute
    distances; a steady rise has none. nan where that half has fewer than three points.
    """
    late = np.asarray(curve, dtype=float)[len(curve) // 2 :]
    if len(late) < 3:
        return math.nan
    return float(np.abs(late[1:-1] - (late[:-2] + late[2:]) / 2).mean())
