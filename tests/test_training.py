import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_runs
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F

from fewlabels.errors import UserError
from fewlabels.learn.training import NonFiniteLoss, Recipe, _factor, evaluated, fit, predict
from fewlabels.nets.frozen import Frozen


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu")


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def recipe(steps=30, **settings):
    return Recipe(**{"steps": steps, "batch_size": 32, "rate": 0.05, "evaluations": 3} | settings)


def cross_entropy(points):
    x, y = points
    return lambda module, index: F.cross_entropy(module(x[index]), y[index])


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Scripted(nn.Module):
    """A module whose loss at step t is what the script says."""

    def __init__(self, script):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.script = list(script)
        self.calls = 0

    def forward(self, index):
        self.calls += 1
        return self.weight.sum() * 0 + self.script[self.calls - 1]


def scripted_loss(module, index):
    return module(index)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_a_separable_problem_is_learnt(fabric, points, optimiser):
    torch.manual_seed(0)
    module = nn.Linear(2, 2)
    curves = fit(module, cross_entropy(points), 200, recipe(60, optimiser=optimiser), fabric)
    assert curves["train_loss"][-1] < 0.6 * curves["train_loss"][0]
    x, y = points
    assert (module(x).argmax(1) == y).float().mean() > 0.95


def test_the_seed_decides_the_weights_to_the_bit(fabric, points):
    def trained(seed):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        fit(module, cross_entropy(points), 200, recipe(), fabric)
        return state(module)

    first, again, other = trained(1), trained(1), trained(2)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("bad", [1, 7, 30, 50, 51, 63])
@pytest.mark.parametrize("evaluations", [0, 1, 9])
def test_the_first_non_finite_loss_is_named_with_its_step_and_run(fabric, bad, evaluations):
    script = [1.0] * 63
    script[bad - 1] = math.inf if bad % 2 else math.nan
    script[bad:] = [math.nan] * (63 - bad)
    with pytest.raises(NonFiniteLoss, match=f"at step {bad} of 63") as error:
        own = recipe(63, evaluations=evaluations)
        fit(Scripted(script), scripted_loss, 64, own, fabric, label="run seven")
    assert "run seven" in str(error.value)
    assert "rate=0.05" in str(error.value)


def test_train_loss_is_the_mean_since_the_point_before(fabric):
    curves = fit(Scripted([1, 2, 3, 4, 5, 6]), scripted_loss, 64, recipe(6), fabric)
    assert curves == {"step": [2, 4, 6], "train_loss": [1.5, 3.5, 5.5]}


@pytest.mark.parametrize(("steps", "evaluations"), [(7, 3), (3, 2), (5, 4), (20, 20), (51, 7)])
def test_curves_have_as_many_points_as_asked_and_end_with_the_last_step(fabric, steps, evaluations):
    module = Scripted([1.0] * steps)
    own = recipe(steps, evaluations=evaluations)
    curves = fit(module, scripted_loss, 64, own, fabric, lambda module: {"valid_loss": 1.0})
    assert {len(curve) for curve in curves.values()} == {evaluations}
    assert curves["step"][-1] == steps
    assert curves["step"] == sorted(set(curves["step"]))


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 4)])
def test_best_keeps_the_state_of_the_lowest_validation_loss(fabric, points, keep, kept):
    """Batch norm's buffers belong to the state as well."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    states, losses = [], [0.7, 0.3, 0.3, 0.9]

    def evaluate(module):
        states.append(state(module))
        return {"valid_loss": losses[len(states) - 1]}

    own = recipe(12, evaluations=4, keep=keep)
    curves = fit(module, cross_entropy(points), 200, own, fabric, evaluate)
    assert curves["valid_loss"] == losses
    assert [same(state(module), each) for each in states] == [
        number == kept for number in (1, 2, 3, 4)
    ]


def test_best_without_validation_is_refused(fabric, points):
    with pytest.raises(UserError, match="keep"):
        recipe(12, evaluations=0, keep="best")
    with pytest.raises(UserError, match="keep"):
        fit(nn.Linear(2, 2), cross_entropy(points), 200, recipe(12, keep="best"), fabric)


def test_evaluation_is_without_gradients_and_in_evaluation_mode(fabric, points):
    seen = {"loss": [], "evaluate": []}
    x, y = points

    def loss(module, index):
        seen["loss"].append((module.training, torch.is_grad_enabled()))
        return F.cross_entropy(module(x[index]), y[index])

    def evaluate(module):
        seen["evaluate"].append((module.training, torch.is_grad_enabled()))
        return {}

    module = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    fit(module, loss, 200, recipe(6), fabric, evaluate)
    assert seen == {"loss": [(True, True)] * 6, "evaluate": [(False, False)] * 3}
    assert not module.training


def test_evaluated_restores_the_mode():
    module = nn.Dropout()
    for mode in (True, False):
        assert evaluated(module.train(mode), lambda m: {"training": m.training}) == {
            "training": False
        }
        assert module.training is mode


def test_an_epoch_shows_every_image_once_and_its_last_batch_is_shorter(fabric):
    seen = []

    def loss(module, index):
        seen.append(index.tolist())
        return module(index)

    torch.manual_seed(0)
    fit(Scripted([1.0] * 6), loss, 10, recipe(6, batch_size=4), fabric)
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    epochs = [[*a, *b, *c] for a, b, c in (seen[:3], seen[3:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_no_steps_leave_the_weights_as_they_are(fabric, points):
    module = nn.Linear(2, 2)
    before = state(module)
    nothing = recipe(0, evaluations=0)
    assert fit(module, cross_entropy(points), 200, nothing, fabric) == {
        "step": [],
        "train_loss": [],
    }
    assert same(before, state(module))
    assert not module.training


def test_a_frozen_backbone_does_not_move_nor_do_its_statistics(fabric, points):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    module = Frozen(backbone, nn.Linear(4, 2))
    before = state(module)
    own = recipe(6, optimiser="adamw", weight_decay=0.1)
    fit(module, cross_entropy(points), 200, own, fabric, lambda module: {})
    after = state(module)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", "head.bias"}


@pytest.mark.parametrize("optimiser", ["adamw", "plain sgd"])
def test_weights_decay_by_hand(fabric, optimiser):
    """Without a gradient, what is left after every step is 1 - rate * decay."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    own = recipe(6, optimiser=optimiser, weight_decay=0.1, evaluations=0)
    fit(module, lambda module, index: module(torch.zeros(1, 1)).sum(), 200, own, fabric)
    assert module.weight.item() == pytest.approx((1 - 0.05 * 0.1) ** 6, rel=1e-6)


def test_predict_in_batches_is_predict_at_once():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    images = torch.randn(11, 1, 4, 4).double()
    whole = predict(module, images, batch_size=11)
    assert whole.shape == (11, 3)
    assert whole.dtype == torch.float32
    assert not whole.requires_grad
    for size in (1, 4, 500):
        assert torch.allclose(predict(module, images, batch_size=size), whole)


def test_cosine_schedule_by_hand():
    own = recipe(100, schedule="cosine")
    # Warm-up over 5 steps, then half a cosine over the other 95.
    assert [_factor(step, own) for step in (0, 1, 4, 5)] == pytest.approx([0.2, 0.4, 1, 1])
    assert _factor(99, own) == pytest.approx(0.5 * (1 + math.cos(math.pi * 94 / 95)))
    assert _factor(99, own) < 3e-4
    assert _factor(100, own) == 0
    assert {_factor(step, recipe(100)) for step in (0, 50, 99)} == {1.0}
    assert _factor(0, recipe(1, evaluations=0, schedule="cosine")) == 1


def test_the_schedule_scales_the_updates(fabric):
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)

    def loss(module, index):
        return module(torch.ones(1, 1)).sum()

    own = recipe(40, rate=0.1, optimiser="sgd", schedule="cosine", evaluations=40)
    weights = []
    fit(module, loss, 64, own, fabric, lambda m: weights.append(m.weight.item()) or {})
    # Gradient 1, Nesterov momentum 0.9, warm-up over 2 steps: half the rate times 1 + 0.9 first;
    # then the velocity is 1.9 and the whole rate times 1 + 0.9 * 1.9.
    assert weights[0] == pytest.approx(-0.05 * 1.9)
    assert weights[1] - weights[0] == pytest.approx(-0.1 * 2.71)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", -1),
        ("steps", 2.5),
        ("batch_size", 0),
        ("rate", 0),
        ("rate", math.nan),
        ("weight_decay", -0.1),
        ("optimiser", "lion"),
        ("schedule", "step"),
        ("evaluations", 31),
        ("keep", "first"),
    ],
)
def test_impossible_recipes_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=f"^{key} is "):
        recipe(**{key: value})


def test_two_processes_update_as_one_does(fabric):
    # In a process of its own: this one has run backward passes and must not be forked any more.
    command = "import toy_runs; print(toy_runs.linear_update_of_two())"
    two = subprocess.run(
        [sys.executable, "-c", command],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    single = toy_runs.linear_update(fabric)
    assert json.loads(two.stdout.splitlines()[-1]) == pytest.approx(single, abs=1e-6)
