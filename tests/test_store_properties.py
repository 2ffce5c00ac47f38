"""Whatever order runs are started, killed, damaged and started again in, the store ends with the
records of an undisturbed sweep."""

import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lightning.fabric import Fabric
from toy_runs import measured

from fewlabels import cached
from fewlabels.runs import records
from fewlabels.runs.records import Experiment, Outcome, Store

FABRIC = Fabric(accelerator="cpu")


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Sum(Experiment, kind="sum", recipe=1):
    """Adds its number to the weights of the run that it starts from."""

    number: int
    start: "Sum | None" = None

    def cell(self):
        return {"dataset": self.dataset, "method": "sum"}

    def checksums(self):
        return {}

    def execute(self, fabric, store):
        before = store.weights(self.start, fabric)["sum"] if self.start else torch.zeros(1)
        total = before + self.number
        return Outcome(metrics={"sum": total.item()}, weights={"sum": total})


FIRST = Sum("none", 1)
SECOND = Sum("none", 20, FIRST)
RUNS = [FIRST, SECOND, Sum("none", 300, SECOND), Sum("none", 4000, FIRST)]
SUMS = [1, 21, 321, 4001]
PLACES = {
    "while it computes": (Sum, "execute"),
    "before its weights are written": (cached, "save"),
    "while a file is renamed": (Path, "replace"),
    "between weights and record": (records, "_version"),
}


class Disturbed(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.place = tempfile.TemporaryDirectory()
        self.root = Path(self.place.name)
        self.cache = patch.dict("os.environ", FEWLABELS_CACHE=str(self.root / "cache"))
        self.cache.start()
        warnings.simplefilter("ignore")
        self.store = Store(self.root / "results")

    @rule(run=st.sampled_from(RUNS))
    def start(self, run):
        self.store.run(run, FABRIC)

    @rule(run=st.sampled_from(RUNS), where=st.sampled_from(sorted(PLACES)))
    def start_and_kill(self, run, where):
        with suppress(Killed), patch.object(*PLACES[where], side_effect=Killed):
            self.store.run(run, FABRIC)

    @rule(run=st.sampled_from(RUNS))
    def ask_for_weights(self, run):
        assert self.store.weights(run, FABRIC)["sum"].item() == SUMS[RUNS.index(run)]

    @rule(data=st.data())
    def damage(self, data):
        """Cut a file short, change a byte of it, empty it, or remove it."""
        there = [p for p in self.root.rglob("*") if p.is_file() and p.suffix != ".lock"]
        if there:
            path = data.draw(st.sampled_from(sorted(there)))
            content = bytearray(path.read_bytes())
            match data.draw(st.sampled_from(["cut", "change", "empty", "remove"])):
                case "cut":
                    path.write_bytes(content[: len(content) // 2])
                case "change" if content:
                    content[data.draw(st.integers(0, len(content) - 1))] ^= 1
                    path.write_bytes(content)
                case "empty":
                    path.write_bytes(b"")
                case _:
                    path.unlink()

    @invariant()
    def no_record_is_wrong(self):
        if hasattr(self, "store"):
            for run, total in zip(RUNS, SUMS, strict=True):
                found = self.store.get(run)
                assert found is None or found.metrics == {"sum": total}

    def teardown(self):
        if hasattr(self, "store"):
            found = [self.store.run(run, FABRIC) for run in RUNS]
            assert [record.metrics["sum"] for record in found] == SUMS
            undisturbed = Store(self.root / "undisturbed")
            assert [*map(measured, found)] == [
                measured(undisturbed.run(run, FABRIC)) for run in RUNS
            ]
            assert not list(self.root.rglob("*.tmp"))
            self.cache.stop()
            self.place.cleanup()


Disturbed.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestDisturbed = Disturbed.TestCase
