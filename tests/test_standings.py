"""Label draws as published, and a stranger's predictions beside the book's methods."""

import numpy as np
import pandas as pd
import pytest

from fewlabels import paths
from fewlabels.book import cli
from fewlabels.errors import UserError
from fewlabels.evidence import measures, standings, tables

NAME = "bloodmnist-25%"


@pytest.fixture(scope="module")
def task():
    return standings.task(NAME)


@pytest.fixture
def arrays(task):
    """What a good file holds: three draws whose predictions are right but for some images."""
    truth, found = standings.images("bloodmnist").test_labels.astype(int), {}
    for d in range(3):
        wrong = np.arange(len(truth)) % 10 == d
        found[f"draw_{d}"] = np.where(wrong, (truth + 1) % 8, truth)
        found |= {f"hash_{d}": task.hashes[d], f"labelled_{d}": task.draws[d][::-1]}
    return found


@pytest.fixture
def written(tmp_path):
    def write(arrays):
        np.savez(tmp_path / "predictions.npz", **arrays)
        return tmp_path / "predictions.npz"

    return write


def test_the_published_draws_are_small_whole_and_those_of_the_data():
    assert sum(file.stat().st_size for file in standings.folder().iterdir()) < 1_000_000
    known = standings.files_of_tasks()
    assert [*known][:2] == ["bloodmnist-1%", "bloodmnist-5%"] and len(known) == 10
    for name in known:
        assert standings.altered(name) == []
        try:
            assert standings.differences(name) == []
        except UserError:
            continue  # The data are not here, or not the book's.


def test_every_method_that_chapter_5_scores_has_its_draws_published():
    """A new data set, budget or draw in the plan needs `standings.publish()`."""
    from fewlabels import chapters, data
    from fewlabels.chapters import profiles

    with data.as_in_the_book():
        planned = chapters.load(standings.CHAPTER).plan(profiles.settings(standings.CHAPTER))
    tasks = {name: standings.task(name) for name in standings.files_of_tasks()}
    for run in standings.scored(planned):
        assert run.draw in tasks[f"{run.dataset}-{100 * run.fraction:g}%"].draws


def test_a_draw_that_was_altered_is_noticed(task, monkeypatch):
    other = dict(task.draws) | {1: np.roll(task.draws[1], 1)}
    monkeypatch.setattr(
        standings, "task", lambda name: standings.Task("bloodmnist", "25%", other, task.hashes)
    )
    assert standings.altered(NAME) == [f"{NAME}, draw 1: its hash is not that of its positions"]


def test_a_hash_binds_data_set_budget_and_draw(task):
    positions = task.draws[0]
    assert task.hashes[0] == standings.digest(NAME, 0, positions)
    others = [(NAME, 1, positions), ("dermamnist-25%", 0, positions), (NAME, 0, positions[1:])]
    assert task.hashes[0] not in {standings.digest(*each) for each in others}


@pytest.fixture(scope="module")
def runs():
    """Two methods on the task: one as good as chance, and one that has met two draws only."""
    rows = [("one", d, 0.1 + 0.01 * d) for d in range(3)] + [("two", d, 0.95) for d in range(2)]
    found = pd.DataFrame(rows, columns=["name", "draw", standings.METRIC])
    facts = {"dataset": "bloodmnist", "labels": "25%", "protocol": "report", "kind": "classes"}
    found = found.assign(**facts, luck=None, overlap=None, record="made")
    elsewhere = found.iloc[:1].assign(labels="100%", name="three")
    unscored = found.iloc[:1].assign(
        protocol="tuned, scored on validation images", name="four", draw=1000
    )
    return pd.concat([found, elsewhere, unscored])


def test_predictions_stand_beside_every_stored_method_paired_by_draw(
    task, arrays, written, runs, monkeypatch
):
    monkeypatch.setattr(standings, "of_the_book", lambda chapter: runs)
    found = standings.score(task, written(arrays)).set_index("Method")
    assert [*found.index] == ["yours", "two", "one"]
    truth = standings.images("bloodmnist").test_labels
    own = [
        np.mean([(arrays[f"draw_{d}"] == truth)[truth == k].mean() for k in range(8)])
        for d in range(3)
    ]
    # By hand: three pairs, a Student interval of their differences.
    gap = measures.statistics.mean_difference([own[d] - (0.1 + 0.01 * d) for d in range(3)])
    assert found.loc["one", "Yours minus it"] == tables.percent(gap, sign=True)
    assert found.loc["one", "p (Holm)"] == tables.p_value(gap.p)
    assert found.loc["two", "n"] == "2" and "two runs" in found.loc["two", "Yours minus it"]
    assert found.loc["yours", "n"] == "3"
    assert found.loc["yours", "Mean class accuracy, %"].startswith(f"{100 * np.mean(own):.1f}")


def test_probabilities_are_as_good_as_classes(task, arrays, written, monkeypatch, runs):
    monkeypatch.setattr(standings, "of_the_book", lambda chapter: runs)
    first = standings.score(task, written(arrays))
    soft = {d: np.eye(8)[arrays[f"draw_{d}"]] * 0.5 + 0.0625 for d in range(3)}
    again = standings.score(task, written(arrays | {f"draw_{d}": soft[d] for d in soft}))
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"hash_1": a["hash_0"]}, "hash_1 is another draw's"),
        (lambda a: {k: v for k, v in a.items() if k != "hash_2"}, "hash_2 is missing"),
        (lambda a: a | {"draw_7": a["draw_0"]}, "holds draw_7; .* has the draws 0, 1, 2, 3, 4"),
        (lambda a: a | {"draw_0": a["draw_0"][1:]}, r"draw_0 is \[3420\]; allowed: classes \[3421"),
        (lambda a: a | {"draw_0": np.zeros((3421, 7))}, r"draw_0 is \[3421, 7\]"),
        (lambda a: a | {"draw_0": np.ones((3421, 8))}, "draw_0: .*softmax"),
        (lambda a: a | {"draw_0": a["draw_0"] + 1}, "draw_0: .*in 0..7"),
        (lambda a: a | {"draw_0": a["draw_0"] * 1.0}, "draw_0: .*integer"),
        (lambda a: a | {"labelled_0": a["labelled_0"] + 11959}, "validation or test images"),
        (lambda a: a | {"labelled_0": a["labelled_0"] - 1}, "validation or test images|not the po"),
        (lambda a: a | {"labelled_0": a["labelled_0"][1:]}, "2,987 positions; the draw has 2,988"),
        (lambda a: a | {"labelled_0": a["labelled_1"]}, "not the positions of the published draw"),
        (lambda a: a | {"labelled_0": a["labelled_0"] * 1.0}, "labelled_0 is float64"),
        (lambda a: {"classes": a["draw_0"]}, "holds no draw_0"),
    ],
)
def test_what_does_not_count_is_refused(task, arrays, written, change, words):
    with pytest.raises(UserError, match=words):
        standings.predictions(task, written(change(arrays)))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut", "npy"])
def test_another_file_is_refused_in_one_line(task, tmp_path, content):
    file = tmp_path / "predictions.npz"
    if content == "npy":
        with file.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"is no \.npz file"):
        standings.predictions(task, file)
    np.savez(file, draw_0=np.array([{}]))  # Needs pickle, which may run anything.
    with pytest.raises(UserError, match=r"is no \.npz file"):
        standings.predictions(task, file)
    with pytest.raises(UserError, match=r"absent\.npz cannot be used: no such file"):
        standings.predictions(task, tmp_path / "absent.npz")


def test_the_command_lists_tasks_and_refuses_unknown_ones(capsys):
    assert cli.main(["score"]) == 0
    said = capsys.readouterr().out
    assert "bloodmnist-25%     results/draws/bloodmnist-25.npz" in said
    for arguments in (["score", "x.npz"], ["score", "x.npz", "--task", "bloodmnist-26%"]):
        assert cli.main(arguments) == 2
        assert "bloodmnist-25%" in capsys.readouterr().err
    assert (paths.ROOT / "results/draws/bloodmnist-25.npz").exists()
