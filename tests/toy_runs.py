"""Runs of a fraction of a second, in a module that other processes can import."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional as F

from fewlabels.learn import training
from fewlabels.learn.training import Recipe, fit
from fewlabels.runs.records import Experiment, Outcome, Store
from fewlabels.runs.sweep import run_all

RECIPE = Recipe(steps=6, batch_size=16, rate=0.1, evaluations=3)


@dataclass(frozen=True)
class Toy(Experiment, kind="toy", recipe=1):
    """A linear classifier on random points, from the weights of ``start`` where there is one.

    Every execution adds a line with its draw to the file that ``TOY_LOG`` names and then waits
    for ``TOY_PAUSE`` seconds; for ever, where its draw is ``TOY_STOP`` or above. Every step of its
    training takes ``TOY_STEP`` seconds.
    """

    draw: int
    start: "Toy | None" = None
    fails: bool | str = False
    """True, ``killed``, or the name of an error of ``fewlabels.learn.training``."""

    def cell(self):
        return {"dataset": self.dataset, "labels": 10, "method": "toy", "protocol": "report"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        with Path(os.environ["TOY_LOG"]).open("a") as log:
            log.write(f"{self.draw}\n")
        while self.draw >= float(os.environ.get("TOY_STOP", "inf")):
            time.sleep(1)
        time.sleep(float(os.environ.get("TOY_PAUSE", 0)))
        if self.fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails:
            error = RuntimeError if self.fails is True else getattr(training, self.fails)
            raise error(f"toy {self.draw} fails")
        torch.manual_seed(self.draw)
        points = torch.randn(64, 8)
        classes = (points[:, 0] > 0).long()
        network = nn.Linear(8, 2)
        if self.start is not None:
            network.load_state_dict(store.weights(self.start, fabric))

        def loss(module: nn.Module, index: torch.Tensor) -> torch.Tensor:
            time.sleep(float(os.environ.get("TOY_STEP", 0)))
            return F.cross_entropy(module(points[index]), classes[index])

        curves = fit(network, loss, 64, RECIPE, fabric)
        probabilities = network(points).softmax(dim=1).detach()
        return Outcome(
            metrics={
                "accuracy": (probabilities.argmax(1) == classes).float().mean().item(),
                "auc": float("nan"),
            },
            curves=curves,
            predictions={
                "classes": probabilities.argmax(1).numpy().astype(np.uint8),
                "probabilities": probabilities.numpy().astype(np.float16),
            },
            parameters={"total": 18, "trained": 18},
            weights=network.state_dict(),
        )


def measured(record) -> str:
    """All of a record that another machine or another day would leave the same."""
    arrays = {k: (v.dtype.str, v.shape, v.tobytes().hex()) for k, v in record.predictions.items()}
    parts = (record.id, record.config, record.inputs, record.metrics, record.curves, arrays)
    return json.dumps(parts, sort_keys=True)


def wait_until(condition, process) -> None:
    """Wait for the condition as long as the process that brings it about lives, however slowly."""
    while not condition():
        assert process.poll() is None, "it ended in vain"
        time.sleep(0.02)


def sweep_of_seven() -> list[Toy]:
    """One run and six that start from its weights."""
    first = Toy("digits", 0)
    return [first, *(Toy("digits", draw, start=first) for draw in range(1, 7))]


def run_sweep(folder: str, workers: int) -> None:
    run_all(sweep_of_seven(), Store(Path(folder)), device="cpu", workers=workers)


def run_one(folder: str) -> None:
    Store(Path(folder)).run(Toy("digits", 0), Fabric(accelerator="cpu"))


def linear_update(fabric: Fabric) -> list[float]:
    """Weights of a linear model after four steps on data that every process has, and its losses."""
    torch.manual_seed(0)
    points = torch.randn(16, 3)
    targets = points.sum(dim=1, keepdim=True)
    network = nn.Linear(3, 1)
    recipe = Recipe(steps=4, batch_size=8, rate=0.1, optimiser="sgd", evaluations=4)
    curves = fit(
        network,
        lambda module, index: F.mse_loss(module(points[index]), targets[index]),
        16,
        recipe,
        fabric,
    )
    weights = [number for p in network.parameters() for number in p.flatten().tolist()]
    return weights + curves["train_loss"]


def linear_update_of_two() -> list[float]:
    """The same in two processes, each on half of every batch."""
    return Fabric(accelerator="cpu", strategy="ddp_fork", devices=2).launch(linear_update)
