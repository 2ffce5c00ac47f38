import math

import numpy as np
import pytest
import torch

from fewlabels.data.augment import quarter_turns
from fewlabels.learn.pretext import fixmatch, rotation


@pytest.fixture
def images():
    return torch.arange(3 * 2 * 4 * 4).view(3, 2, 4, 4)


def test_all_turns_of_an_image_lie_next_to_each_other(images):
    views, turns = rotation.all_turns(images)
    assert views.shape == (12, 2, 4, 4)
    assert turns.tolist() == [0, 1, 2, 3] * 3
    assert torch.equal(views[::4], images)
    assert torch.equal(views, quarter_turns(images.repeat_interleave(4, dim=0), turns))


def test_turns_are_counter_clockwise_by_degrees():
    image = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
    views, _ = rotation.all_turns(image)
    by_name = dict(zip(rotation.TURNS, views.view(4, 2, 2).tolist(), strict=True))
    assert by_name == {
        "0": [[1, 2], [3, 4]],
        "90": [[2, 4], [1, 3]],
        "180": [[4, 3], [2, 1]],
        "270": [[3, 1], [4, 2]],
    }


def test_one_turn_shows_every_turn_equally_often_and_names_it(images):
    torch.manual_seed(0)
    many = images[:1].expand(2000, -1, -1, -1)
    views, turns = rotation.one_turn(many)
    assert torch.equal(views, quarter_turns(many, turns))
    # 2,000 draws of 4: 500 each, standard deviation 19.
    assert (turns.bincount(minlength=4) - 500).abs().max() < 100


def test_rotation_loss_of_a_network_that_knows_nothing_is_log_4():
    turns = torch.tensor([0, 1, 2, 3, 3])
    assert rotation.loss(torch.zeros(5, 4), turns).item() == pytest.approx(math.log(4))
    assert rotation.loss(50 * torch.eye(4)[turns], turns).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    weak = 2 * torch.randn(40, 5, generator=generator)
    return weak, torch.randn(40, 5, generator=generator)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 0.95, 1.0])
def test_fixmatch_loss_is_equation_4(logits, threshold):
    weak, strong = (array.double().numpy() for array in logits)
    q = np.exp(weak) / np.exp(weak).sum(axis=1, keepdims=True)
    log_p = strong - np.log(np.exp(strong).sum(axis=1, keepdims=True))
    total = sum(-log_p[i, q[i].argmax()] for i in range(40) if q[i].max() >= threshold)
    assert fixmatch.loss(*logits, threshold).item() == pytest.approx(total / 40, rel=1e-5)


def test_alignment_trusts_a_class_less_that_is_predicted_too_often():
    # Two classes, one image with the probabilities 0.8 and 0.2; the share moves halfway to them.
    logits, share = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0.4, 0.6])
    aligned = fixmatch.aligned(logits, share, torch.tensor([0.25, 0.75]), rate=0.5)
    assert share.tolist() == pytest.approx([0.6, 0.4])
    expected = [0.8 * 0.25 / 0.6, 0.2 * 0.75 / 0.4]
    assert aligned.exp()[0].tolist() == pytest.approx(expected)


def test_alignment_leaves_shares_as_they_should_be(logits):
    share = logits[0].softmax(dim=1).mean(dim=0)
    aligned = fixmatch.aligned(logits[0], share.clone(), share, rate=0.3)
    assert aligned.softmax(dim=1).allclose(logits[0].softmax(dim=1), atol=1e-6)


def test_fixmatch_of_nobody_confident_is_zero(logits):
    assert fixmatch.loss(*logits, threshold=1.0).item() == 0


def test_fixmatch_counts_a_pseudo_label_of_exactly_the_threshold():
    even = torch.zeros(2, 2)
    assert fixmatch.loss(even, even, threshold=0.5).item() == pytest.approx(math.log(2))


def test_no_gradient_flows_through_the_weak_view(logits):
    weak, strong = (array.clone().requires_grad_() for array in logits)
    fixmatch.loss(weak, strong, threshold=0.5).backward()
    assert weak.grad is None
    confident = (logits[0].softmax(dim=1).max(dim=1).values >= 0.5).double()
    assert torch.equal((strong.grad.abs().sum(dim=1) > 0).double(), confident)
