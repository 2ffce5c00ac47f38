"""A step that a CUDA graph can hold: no operation waits for the device, seen here on the CPU; where
there is a card, the same updates as the plain steps."""

import pytest
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from fewlabels.learn.captured import WARM_UP, Captured
from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.training import EpochRecipe, fit
from fewlabels.nets.backbones import backbone


class NoWaiting(TorchDispatchMode):
    """Refuses operations whose result, or its shape, the CPU would have to wait for."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        masks = [each for each in (args[1] if name in ("index", "index_put_") else ())]
        if name in self.WAITING or any(m is not None and m.dtype == torch.bool for m in masks):
            raise AssertionError(f"{name} waits for the device")
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("protocol", ["report", "tuned"])
@pytest.mark.parametrize("name", METHODS)
def test_no_step_of_a_method_waits_for_the_device(name, protocol):
    method = METHODS[name]
    recipe = method.COURSES[protocol].recipe(256)
    trunk = backbone(method.NETWORKS[protocol], 28, tiny=True)
    network = method.build(protocol, trunk, 28, recipe, blur=True)
    images = torch.zeros(recipe.batch_size, 3, 28, 28, dtype=torch.uint8)
    with NoWaiting():
        network.loss(*network(*network.views(images))).backward()
    assert any(p.grad is not None for p in trunk.parameters())


def test_a_step_that_waits_is_noticed():
    x = torch.rand(4)
    for waiting in (lambda: x[x > 0.5], lambda: x.sum().item(), lambda: x.nonzero()):
        with NoWaiting(), pytest.raises(AssertionError, match="waits"):
            waiting()


class Recorder:
    """A step that says what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, index):
        self.asked.append(index)
        return index.float().mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
@pytest.mark.parametrize("optimiser", ["sgd", "plain sgd", "adamw"])
def test_captured_steps_make_the_same_updates(optimiser):
    fabric = Fabric(accelerator="cuda", devices=1)
    images, labels = torch.rand(100, 8, device="cuda"), torch.arange(100, device="cuda") % 3
    weights = []
    for captured in (False, True):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        recipe = EpochRecipe(
            60, 16, 0.1, optimiser, schedule="epoch cosine", evaluations=3, epoch_steps=7
        )

        def loss(network, index):
            noise = torch.rand(len(index), 8, device="cuda")
            return F.cross_entropy(network(images[index] + noise), labels[index])

        fit(module.cuda(), loss, 100, recipe, fabric, captured=captured)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.allclose(*weights, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
def test_batches_of_another_size_run_as_they_are():
    step = Recorder()
    captured = Captured(step, 4, torch.device("cuda"))
    for _ in range(WARM_UP + 3):
        captured(torch.arange(4, device="cuda"))
    assert len(step.asked) == WARM_UP + 1
    assert captured(torch.tensor([2, 4], device="cuda")).item() == 3
