"""A run that is stopped goes on later where it was, and says meanwhile how far it is.

A run trains in one or more calls of `fewlabels.learn.training.fit`. Each keeps its state in a file
of its own: every few minutes, and when it is told to stop. Computed again, the run does what lay
before once more, takes up the state and goes on, on a CPU to the same numbers, bit for bit.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from fewlabels import cached

EVERY = 300
"""Seconds of training that are lost at most where a process is killed."""
SHORT = 60
"""Seconds: a training that ended sooner is done again when its run goes on."""


class Stopped(Exception):
    """The run was told to stop. What it has kept stays."""


STOP: ContextVar[Callable[[], bool]] = ContextVar("stop", default=lambda: False)
"""Whether the run is to stop; asked after every step."""
TELL: ContextVar[Callable[[int, int], None]] = ContextVar("tell", default=lambda step, steps: None)
"""Called as ``tell(step, steps)`` after every step."""


class Run:
    """A run that is being computed.

    Args:
        folder: of what it keeps.
        key: what is kept under another one (by other code, say) is not taken up.
    """

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = folder, key
        self.trainings = 0
        self.start = time.perf_counter()

    def seconds(self) -> float:
        """Spent on it, also before it was stopped."""
        return time.perf_counter() - self.start


_RUN: ContextVar[Run | None] = ContextVar("run", default=None)


@contextmanager
def resumable(folder: Path, key: str) -> Iterator[Run]:
    """Within it, trainings keep their states in the folder and take up those that are there."""
    token = _RUN.set(run := Run(folder, key))
    try:
        yield run
    finally:
        _RUN.reset(token)


class Kept:
    """The state of one training, in a file; nothing is kept outside `resumable`, nor where several
    devices train together.

    Args:
        module: trained in place; all its parameters and buffers belong to the state.
        what: besides the run's key, what has to be the same for the state to be taken up.
    """

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer, fabric: Fabric, *what):
        self._module, self._optimiser, self._device = module, optimiser, fabric.device
        self._stop, self._tell = STOP.get(), TELL.get()
        self._run = _RUN.get() if fabric.world_size == 1 else None
        self._found = False
        self._began = self._last = time.perf_counter()
        if self._run is not None:
            self._path = self._run.folder / f"{self._run.trainings}.pt"
            self._run.trainings += 1
            precision = fabric._precision.precision
            around = (fabric.device.type, precision, torch.__version__)
            self._key = repr((self._run.key, *around, *what))

    def load(self) -> dict[str, Any] | None:
        """What was handed to `step` when the state was kept, with network, optimiser and random
        numbers as they were; None where nothing fitting is there."""
        if self._run is None:
            return None
        found = cached.load(self._path, lambda kept: isinstance(kept, dict), self._device)
        if found is None or found.get("key") != self._key:
            return None
        with torch.no_grad():
            for name, tensor in _tensors(self._module).items():
                tensor.copy_(found["tensors"][name])
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": found["optimiser"], "param_groups": groups})
        _restore(found["random"], self._device)
        self._found = True
        self._run.start = time.perf_counter() - found["seconds"]
        return found["training"]

    def step(self, step: int, steps: int, training: dict[str, Any]) -> None:
        """After every step: keep the state where it is time to. Raises Stopped."""
        self._tell(step, steps)
        now = time.perf_counter()
        if step == steps:
            if self._found or now - self._began > SHORT:
                self._save(training)
        elif self._stop():
            self._save(training)
            raise Stopped
        elif now - self._last > EVERY:
            self._save(training)
            self._last = now

    def _save(self, training: dict[str, Any]) -> None:
        if self._run is not None:
            state = {
                "key": self._key,
                "tensors": {k: v.detach() for k, v in _tensors(self._module).items()},
                "optimiser": self._optimiser.state_dict()["state"],
                "random": _random(self._device),
                "seconds": self._run.seconds(),
                "training": training,
            }
            cached.save(state, self._path)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, also those that no state dict holds."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _random(device: torch.device) -> dict[str, Any]:
    """Where all generators of random numbers stand."""
    name, numbers, *rest = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(numbers.astype(np.int64)), *rest),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _restore(found: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(found["torch"].cpu())
    random.setstate(found["python"])
    name, numbers, *rest = found["numpy"]
    np.random.set_state((name, numbers.cpu().numpy().astype(np.uint32), *rest))
    if device.type == "cuda":
        torch.cuda.set_rng_state(found["cuda"].cpu(), device)
