"""A run that was stopped goes on to the numbers of one that was not."""

import json
import random
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import cross_entropy, same, state
from torch import nn
from toy_runs import Toy, measured

from fewlabels.kinds.ssl import Pretraining
from fewlabels.learn import resume
from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.resume import STOP, TELL, Stopped, resumable
from fewlabels.learn.training import EpochRecipe, fit
from fewlabels.runs.records import Store

OPTIMISERS = {
    "adam": {"optimiser": "adam", "keep": "best"},
    "adamw": {"optimiser": "adamw", "schedule": "cosine", "weight_decay": 0.1},
    "sgd": {"optimiser": "sgd", "schedule": "epoch cosine", "epoch_steps": 5, "drop_last": True},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))


@contextmanager
def asked(stop, tell=lambda step, steps: None):
    tokens = STOP.set(stop), TELL.set(tell)
    try:
        yield
    finally:
        STOP.reset(tokens[0]), TELL.reset(tokens[1])


class Noisy(nn.Module):
    """Draws from every generator, and keeps a buffer that no state dict holds."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)
        )
        self.register_buffer("memory", torch.zeros(2), persistent=False)

    def forward(self, points):
        if self.training:
            self.memory.mul_(0.9).add_(points.mean(dim=0))
            points = points + 0.01 * (random.random() + np.random.rand())
        return self.layers(points + self.memory)


def train(fabric, settings):
    """Two trainings, the second from where the first ended: all that comes of them."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    x = torch.randn(83, 2)
    loss = cross_entropy((x, (x.sum(dim=1) > 0).long()))
    module = Noisy()
    recipe = EpochRecipe(steps=23, batch_size=16, rate=0.05, evaluations=7, **settings)
    curves = [
        fit(
            module,
            loss,
            83,
            recipe,
            fabric,
            lambda network: {"valid_loss": network(x).square().mean().item()},
            slower=(module.layers[0], 0.1),
        )
        for _ in range(2)
    ]
    left = (random.random(), np.random.rand(), torch.rand(1).item())
    return json.dumps([curves, {k: v.tolist() for k, v in state(module).items()}, left])


@pytest.mark.parametrize("settings", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("at", [(1,), (5, 6, 22), (16, 23, 30, 46)])
def test_a_stopped_training_goes_on_to_the_same_bits(fabric, tmp_path, monkeypatch, settings, at):
    undisturbed = train(fabric, settings)
    monkeypatch.setattr(resume, "SHORT", 0)
    steps = 0

    def count(step, of):
        nonlocal steps
        steps += 1

    told, found = [], None
    with asked(lambda: steps in at and steps not in told and not told.append(steps), count):
        while found is None:
            with suppress(Stopped), resumable(tmp_path / "kept", "key"):
                found = train(fabric, settings)
    # Nothing is done twice, and it was stopped as often as asked (not behind a last step).
    assert steps == 46
    assert told == [each for each in at if each not in (23, 46)]
    assert found == undisturbed
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["0.pt", "1.pt"]


@pytest.mark.parametrize("change", [{"rate": 0.1}, {"key": "other code"}])
def test_what_other_code_or_another_recipe_has_kept_is_not_taken_up(fabric, tmp_path, change):
    first = {"key": "key", "rate": 0.05}

    def attempt(key, rate):
        torch.manual_seed(0)
        told.clear()
        module = nn.Linear(2, 2)
        loss = cross_entropy((torch.ones(20, 2), torch.zeros(20, dtype=torch.int64)))
        with resumable(tmp_path / "kept", key):
            fit(module, loss, 20, EpochRecipe(6, 5, rate, evaluations=1), fabric)

    told = []
    with asked(lambda: told == [1, 2, 3], lambda step, steps: told.append(step)):
        with pytest.raises(Stopped):
            attempt(**first)
        attempt(**first)
        assert told == [4, 5, 6]
        with pytest.raises(Stopped):
            attempt(**first | change)
        assert told == [1, 2, 3]


def test_a_stopped_run_leaves_the_record_of_an_undisturbed_one(fabric, tmp_path):
    run, steps = Toy("digits", 3), []
    undisturbed = Store(tmp_path / "undisturbed").run(run, fabric)
    store, kept = Store(tmp_path / "results"), tmp_path / "cache/unfinished"
    with asked(lambda: steps == [1, 2], lambda step, of: steps.append(step)):
        with pytest.raises(Stopped):
            store.run(run, fabric)
        assert store.get(run) is None
        (path,) = kept.glob("*/0.pt")
        state = torch.load(path)
        torch.save(state | {"seconds": state["seconds"] + 1000}, path)
        record = store.run(run, fabric)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert measured(record) == measured(undisturbed)
    # The seconds before the stop count, and what was kept is gone.
    assert 1000 < record.seconds < 1000 + 60
    assert list(kept.iterdir()) == []


def test_a_killed_run_loses_minutes_and_no_more(fabric, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "EVERY", 0)
    run, steps = Toy("digits", 3), []

    def tell(step, of):
        steps.append(step)
        if steps == [1, 2, 3]:
            raise MemoryError

    store = Store(tmp_path / "results")
    with asked(lambda: False, tell):
        with pytest.raises(MemoryError):
            store.run(run, fabric)
        store.run(run, fabric)
    assert steps == [1, 2, 3, 3, 4, 5, 6]


@pytest.mark.parametrize("method", ["moco", "mae", "aim"])
def test_a_stopped_pretraining_leaves_the_same_weights(fabric, tmp_path, method):
    course = replace(METHODS[method].COURSES["report"], epochs=2, batch_size=32)
    network = METHODS[method].NETWORKS["report"]
    run = Pretraining("cells", "report", method, network, 0, course, tiny=True)
    whole, store, steps = Store(tmp_path / "whole"), Store(tmp_path / "stopped"), []
    undisturbed, weights = whole.run(run, fabric), whole.weights(run, fabric)
    store.weights_path(run).unlink()
    with asked(lambda: steps == [1, 2, 3, 4], lambda step, of: steps.append(step)):
        with pytest.raises(Stopped):
            store.run(run, fabric)
        record = store.run(run, fabric)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 4
    assert measured(record) == measured(undisturbed)
    assert record.weights == undisturbed.weights
    assert same(weights, store.weights(run, fabric))
