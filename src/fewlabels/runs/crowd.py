"""How many runs at once a graphics card takes, found while it computes.

A sweep begins with one run on each card and doubles their number as long as memory lasts and
doubling pays. Whether it does, those say that were there before: where their steps take less than
twice as long beside twice as many, more is done in all.
"""

import time
from collections.abc import Callable, Hashable, Mapping

import torch

GAIN = 1.15
"""So many times as much has to be done after a doubling, or it is taken back."""
SPARE = 1.5
"""So much more memory than the runs before is kept for each new one: some need more."""
WINDOW = 5
"""Seconds of one measurement."""
PATIENCE = 30
"""Seconds after which it begins also where a run has not made a step: not every run trains."""

Steps = Mapping[Hashable, tuple[float, float]]
"""Of runs that train: steps made, and when that was, in seconds."""


def fitting(used: float, free: float, now: int, most: int) -> int:
    """How many runs memory holds, at most ``most``, where ``now`` of them use ``used`` bytes."""
    return min(most, now + int(free / (SPARE * used / now))) if used > 0 else most


def rates(before: Steps, after: Steps) -> dict[Hashable, float]:
    """Steps a second of the runs that went on from ``before`` to ``after``."""
    both = {name: (*before[name], *after[name]) for name in before.keys() & after.keys()}
    return {
        name: (made - start) / (end - begin)
        for name, (start, begin, made, end) in both.items()
        if made > start and end > begin
    }


def gain(before: Mapping, after: Mapping, times: float) -> float | None:
    """How many times as much is done beside ``times`` as many runs; None where none went on."""
    kept = [after[name] / before[name] for name in before.keys() & after.keys()]
    return times * sum(kept) / len(kept) if kept else None


class Crowd:
    """The number of runs at once.

    Args:
        most: at most, one a core.
        cards: the first runs, one on each.
        free: bytes of memory that are free on the fullest card, see `free_memory`.
        steps: how far the runs are.
    """

    def __init__(self, most: int, cards: int, free: Callable[[], float], steps: Callable):
        self.at_once, self._most = min(cards, most), most
        self._free, self._steps = free, steps
        self._empty = free()
        self._rates: dict[Hashable, float] = {}
        self._smaller, self._settled = self.at_once, self.at_once == most
        self._since, self._start = time.monotonic(), None

    def __call__(self, running: int) -> int:
        """How many may run, asked again and again; ``running``: how many do."""
        if running == self.at_once and not self._settled:
            self._look()
        elif running < self.at_once - 1:  # One less is a run that has ended, and is followed.
            self._since, self._start = time.monotonic(), None
        return self.at_once

    def _look(self) -> None:
        now, steps = time.monotonic(), self._steps()
        if self._start is None:
            begun = sum(made > 0 for made, _ in steps.values()) >= self.at_once
            if begun or now - self._since > PATIENCE:
                self._start = now, steps
        elif now - self._start[0] > WINDOW:
            self._decide(rates(self._start[1], steps))

    def _decide(self, found: dict[Hashable, float]) -> None:
        paid = gain(self._rates, found, self.at_once / self._smaller)
        if paid is not None and paid < GAIN:
            self._settle(self._smaller, f"{self.at_once} do {paid:.2f} times as much")
            return
        free = self._free()
        room = fitting(self._empty - free, free, self.at_once, self._most)
        self._smaller, self._rates = self.at_once, found
        self._since, self._start = time.monotonic(), None
        if (more := min(2 * self.at_once, room)) > self.at_once:
            self.at_once = more
        else:
            self._settle(self.at_once, "as many as memory and cores allow")

    def _settle(self, count: int, why: str) -> None:
        self.at_once, self._settled = count, True
        print(f"{count} runs at once on the card: {why}", flush=True)


def free_memory() -> float:
    """Bytes, on the card that has least."""
    return min(torch.cuda.mem_get_info(card)[0] for card in range(torch.cuda.device_count()))
