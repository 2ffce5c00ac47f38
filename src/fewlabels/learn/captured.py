"""A training step as a CUDA graph.

A step on 28-pixel images is some 500 short kernels, and launching them one by one from Python takes
longer than the card takes to run them. Captured once, they are launched together: the same kernels
on the same memory, so the same updates.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Steps that run as they are, because optimisers and libraries set themselves up in the first."""


class Captured:
    """A step that is captured once and then replayed.

    The step may read its positions and what lies on the device; it must not wait for the device
    (``item``, choosing by a mask) nor draw random numbers elsewhere. Batches of another size run as
    they are, with the same weights.

    Args:
        step: positions int64 [N] to the loss; one update of the weights.
        size: N of the batches that are captured.
        device: a CUDA device.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], size: int, device: torch.device):
        self._step = step
        self._index = torch.zeros(size, dtype=torch.int64, device=device)
        # A capture may not share its stream with anything else.
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss: Tensor | None = None
        self._before = WARM_UP

    def __call__(self, index: Tensor) -> Tensor:
        """The loss at these positions, after the update."""
        if len(index) != len(self._index):
            return self._step(index)
        if self._before:
            self._before -= 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                loss = self._step(index)
            torch.cuda.current_stream().wait_stream(self._stream)
            return loss
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._loss = self._step(self._index)
        self._index.copy_(index)
        self._graph.replay()
        return self._loss
