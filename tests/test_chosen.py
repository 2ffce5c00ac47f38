"""What choosing with few validation images costs."""

import numpy as np
import pytest

from fewlabels.errors import UserError
from fewlabels.evidence.chosen import regret


def test_one_image_in_four_misleads_the_choice():
    """By hand: the first is right about three images of four, the second about the fourth only.

    One image drawn: three times in four the first is chosen, at no loss; else the second, which is
    wrong about the three images that are left, where the first is right.
    """
    right = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    assert regret(right, 1) == pytest.approx(0.25, abs=0.04)
    assert regret(right, 3) == pytest.approx(0, abs=1e-12)


def test_more_images_choose_better_and_equals_cost_nothing():
    generator = np.random.default_rng(1)
    right = generator.random((2, 4000)) < np.array([[0.9], [0.8]])
    lost = [regret(right, budget) for budget in (5, 50, 500)]
    assert 0.02 < lost[0] < 0.05 and lost[0] > lost[1] > lost[2]
    assert lost[2] < 0.001
    assert regret(right[[0, 0]], 5) == 0


@pytest.mark.parametrize("budget", [0, 4, 5])
def test_some_images_are_drawn_and_some_left(budget):
    with pytest.raises(UserError, match=f"budget is {budget}; allowed: 1 to 3"):
        regret(np.ones((2, 4), dtype=bool), budget)
