import math

import numpy as np
import pandas as pd
import pytest

from fewlabels.evidence.spread import deviations, roughness


def test_deviations_add_up_to_that_of_one_run():
    found = deviations(pd.DataFrame([[1.0, 2.0], [3.0, 4.0]]))
    # Means of 1.5 and 3.5 by row, 2 and 3 by column, and nothing left.
    assert found["label draw"] == pytest.approx(2**0.5)
    assert found["seed"] == pytest.approx(0.5**0.5)
    assert found["interaction and rest"] == pytest.approx(0)
    assert found["one run"] == pytest.approx(2.5**0.5)


def test_one_seed_tells_nothing_apart():
    assert deviations(pd.DataFrame([[1.0], [3.0]])).isna().all()


def test_roughness_of_the_second_half_by_hand():
    # Of 0, 1, 0, 1 the two inner points are 1 off the mean of their neighbours.
    assert roughness([9, 0, 9, 0, 0, 1, 0, 1]) == 1
    assert roughness(np.arange(20) / 7) == pytest.approx(0)
    assert math.isnan(roughness([1, 2, 3, 4]))
