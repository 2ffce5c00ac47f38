"""How many runs at once a card takes, tried on made-up cards."""

import pytest
from toy_runs import measured, sweep_of_seven

from fewlabels.runs import crowd, sweep
from fewlabels.runs.crowd import Crowd, fitting, gain, rates
from fewlabels.runs.records import Store
from fewlabels.runs.sweep import run_all

GB = 1e9


def test_memory_holds_what_the_first_took_and_half_more_for_each():
    assert fitting(used=4 * GB, free=60 * GB, now=2, most=64) == 2 + 20
    assert fitting(used=4 * GB, free=60 * GB, now=2, most=16) == 16
    assert fitting(used=4 * GB, free=2 * GB, now=2, most=16) == 2
    assert fitting(used=0, free=2 * GB, now=2, most=16) == 16  # Others freed more than it took.


def test_only_runs_that_went_on_are_measured():
    before = {"a": (100, 10.0), "ended": (5, 10.0), "next": (900, 10.0), "still": (3, 9.0)}
    after = {"a": (150, 15.0), "new": (7, 15.0), "next": (2, 15.0), "still": (3, 9.0)}
    assert rates(before, after) == {"a": 10.0}


def test_a_doubling_pays_by_what_those_before_keep_of_their_speed():
    # Half the speed beside twice as many: nothing is won.
    assert gain({"a": 10.0}, {"a": 5.0, "b": 70.0}, 2) == 1.0
    # Steps of different methods are never added up.
    assert gain({"a": 10.0, "b": 100.0}, {"a": 8.0, "b": 60.0}, 2) == pytest.approx(1.4)
    assert gain({"a": 10.0}, {"b": 5.0}, 2) is None


class Card:
    """Does ``top`` times as much as one run alone does, however many run, and has some memory."""

    def __init__(self, monkeypatch, top: float, memory=80 * GB, trains=True, lasting=1e9):
        self.top, self.memory, self.trains, self.lasting = top, memory, trains, lasting
        self.now, self.running, self.made = 0.0, 0, {}
        monkeypatch.setattr(crowd.time, "monotonic", lambda: self.now)

    def free(self):
        return self.memory - 2 * GB * self.running

    def steps(self):
        number = int(self.now / self.lasting)
        made = {(k, number): (self.made[k], self.now) for k in range(self.running)}
        return made if self.trains else {}

    def settle(self, most=16, cards=1, seconds=400):
        """How many run in the end, and after how many seconds their number was the last one."""
        found = Crowd(most, cards, self.free, self.steps)
        last = 0.0
        for _ in range(seconds):
            before = self.running
            self.running = max(before, found(before))
            last = self.now if self.running != before else last
            speed = min(1, self.top / self.running)
            for k in range(self.running):
                self.made[k] = self.made.get(k, 0) + 10 * speed
            self.now += 1
        return found.at_once, last


@pytest.mark.parametrize(
    ("top", "count"),
    [(1.0, 1), (1.1, 1), (1.9, 2), (3.0, 4), (4.1, 4), (8.0, 8), (100.0, 16)],
)
def test_the_number_doubles_while_that_pays(monkeypatch, capsys, top, count):
    found, seconds = Card(monkeypatch, top).settle()
    assert found == count and seconds < 60
    why = f"{2 * count} do " if count < 16 else "as many as memory and cores allow"
    assert f"{count} runs at once on the card: {why}" in capsys.readouterr().out


def test_memory_and_cores_are_bounds(monkeypatch):
    # Each run takes 2 GB, and 3 are kept for a new one: 4 of them leave 3 for one more.
    assert Card(monkeypatch, 100, memory=11 * GB).settle()[0] == 5
    assert Card(monkeypatch, 100).settle(most=6)[0] == 6
    assert Card(monkeypatch, 100, memory=3 * GB).settle()[0] == 1


def test_several_cards_begin_with_a_run_each(monkeypatch):
    assert Card(monkeypatch, 4.0).settle(cards=4)[0] == 4


@pytest.mark.parametrize("kind", [{"trains": False}, {"lasting": 3}])
def test_where_nothing_can_be_measured_memory_and_cores_decide(monkeypatch, kind):
    found, seconds = Card(monkeypatch, 2.0, **kind).settle()
    assert found == 16 and seconds < 200


def test_fewer_runs_than_may_be_change_nothing(monkeypatch):
    card = Card(monkeypatch, 100.0)
    found = Crowd(16, 2, card.free, card.steps)
    for card.now in range(100):
        assert found(0) == 2


def test_a_sweep_asks_for_it_only_where_no_number_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    made = []

    class Noted(Crowd):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(given[:2])

    monkeypatch.setattr(sweep, "_cards", lambda device: 1)
    monkeypatch.setattr(sweep.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(crowd, "free_memory", lambda: 4 * GB)
    monkeypatch.setattr(crowd, "Crowd", Noted)
    assert sweep._local(2, sweep_of_seven(), "cpu", tmp_path).fewer is None and made == []
    store, runs = Store(tmp_path / "results"), sweep_of_seven()[:4]
    found = run_all(runs, store, device="cpu", progress=lambda *_: None)
    assert [measured(record) for record in found] and None not in found
    assert made == [(2, 1)]
