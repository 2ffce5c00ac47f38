"""How long runs will take, by what records say of runs that differ in their repetition only."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from fewlabels.runs.records import Experiment, Record

REPEATED = ("draw", "split", "seed")
"""Fields that say which repetition a run is, the first that it has."""


class Expected:
    """What is known of the seconds that runs take.

    Args:
        cpu: whether runs are computed on a CPU; what another kind of device took says nothing.
    """

    def __init__(self, cpu: bool):
        self._cpu = cpu
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._medians: dict[str, float] = {}
        self._named: dict[Experiment, str] = {}

    def learn(self, record: Record) -> None:
        """Take in how long a run has taken."""
        if (record.hardware["device"] == "cpu") == self._cpu:
            name = _alike(record.config)
            self._seconds[name].append(record.seconds)
            self._medians.pop(name, None)

    def seconds(self, run: Experiment) -> float | None:
        """Of one run; None where no record says."""
        if run not in self._named:
            self._named[run] = _alike(run.describe())
        name = self._named[run]
        if name not in self._medians and name in self._seconds:
            self._medians[name] = median(self._seconds[name])
        return self._medians.get(name)

    def left(self, runs: Iterable[Experiment], at_once: int) -> str:
        """How much remains to be done, in words."""
        each = [self.seconds(run) for run in runs]
        if not each:
            return "nothing remains"
        known = [seconds for seconds in each if seconds is not None]
        told = [f"{len(each)} {'run remains' if len(each) == 1 else 'runs remain'}"]
        if known:
            told.append(f"about {duration(sum(known) / min(at_once, len(known)))}")
        if unknown := len(each) - len(known):
            whom = "no record says how long" + (f" {unknown} of them take" if known else "")
            told.append(whom)
        return ", ".join(told)


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _alike(config: Mapping[str, Any]) -> str:
    """The config without what says which repetition it is, in nested runs too."""

    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: without(v) for k, v in value.items() if k not in REPEATED}
        return value

    return json.dumps(without(config), sort_keys=True)
