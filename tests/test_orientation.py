from dataclasses import replace

import numpy as np
import pytest
import torch

from fewlabels.data import Split, digits
from fewlabels.learn.orientation import centre_rule, centres, predicted_by_class


def test_centres_by_hand():
    image = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    # Masses 1 and 3 at columns 1 and 3 of the first row; the middle is at 1.5.
    image[0, 0, 0, 1], image[0, 0, 0, 3] = 50, 150
    assert centres(image).tolist() == [[1.0, -1.5]]
    # Counter-clockwise by a quarter turn, right becomes up and up becomes left.
    assert centres(torch.rot90(image, 1, dims=(2, 3))).tolist() == [[-1.5, -1.0]]


def test_the_rule_reads_the_rotation_off_the_place_and_guesses_where_the_place_says_nothing():
    torch.manual_seed(0)
    pixels = torch.randint(1, 256, (200, 1, 6, 6), dtype=torch.uint8)
    split = Split(pixels, torch.zeros(200, dtype=torch.long))
    images = replace(digits.load(), train=split, test=split)
    corner = torch.zeros(6, 6)
    corner[:3, 3:] = 1
    assert centre_rule(images, lambda x: x * corner) == 1.0
    assert 0.2 < centre_rule(images) < 0.35


def test_predictions_by_class():
    labels = np.array([0, 1, 1])
    predicted = np.array([[0, 1, 2, 3], [2, 3, 0, 1], [0, 1, 0, 1]]).flatten()
    assert predicted_by_class(predicted, labels).tolist() == [1.0, 0.25]
    assert predicted_by_class(predicted, labels, off=2).tolist() == [0.0, 0.75]
    total = sum(predicted_by_class(predicted, labels, off) for off in range(4))
    assert total.tolist() == pytest.approx([1, 1])
