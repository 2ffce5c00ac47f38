from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.runs.parameters import Count, Items, Parameters, Positive, Range, Share, Some, check

USUAL = {"store": "cache", "device": "cpu", "precision": "32-true", "workers": 1}


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    epochs: Some
    sizes: list[Count]
    dataset: Literal["mnist", "digits"]


def test_settings_take_their_values_from_the_names_of_a_notebook():
    names = USUAL | {"epochs": 3, "sizes": [1, 0], "dataset": "digits", "something": object()}
    assert Settings.of(names).epochs == 3
    assert Settings.of(names, epochs=4).epochs == 4
    del names["sizes"]
    with pytest.raises(UserError, match="the parameters cell lacks sizes"):
        Settings.of(names)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (Some, [1, 10**6], [0, -1, 1.0, True, "1", None]),
        (Count, [0], [-1, False]),
        (Annotated[int, Range(2, 4)], [2, 4], [1, 5]),
        (Positive, [0.1, 3], [0, -1, float("nan"), float("inf"), "1", True]),
        (Share, [0.01, 1, 1.0], [0, 1.01]),
        (float, [0.0, -1, 2.5], ["x", float("inf"), False]),
        (bool, [True, False], ["false", 0, None]),
        (str, ["", "a"], [1, None]),
        (int, [3, -3], [True, 1.5]),
        (Literal["a", "b"], ["a"], ["c", ["a"]]),
        (list[Some], [[], [1, 2]], [[1, 1], [0], (1, 2), "1"]),
        (Annotated[list[Some], Items()], [[1], [1, 2]], [[], [1, 1], [0], 1]),
        (Annotated[list[Some], Items(alike=True)], [[1], [3, 3, 3]], [[], [3, 0], 16, (3, 3)]),
        (Some | None, [1, None], [0, "none"]),
        (Literal["source"] | Some, ["source", 2], ["other", 0]),
    ],
)
def test_a_type_says_what_a_value_may_be(hint, good, bad):
    for value in good:
        check("key", value, hint)
    for value in bad:
        with pytest.raises(UserError, match=r"key is .*; allowed: "):
            check("key", value, hint)


def test_a_value_that_is_no_parameter_is_refused_and_what_a_notebook_holds_is_not():
    names = USUAL | {"epochs": 3, "sizes": [1, 0], "dataset": "digits"}
    Settings.of(names | {"In": ["epochs = 3"], "Out": {}, "LABELS": 100, "chapter": object})
    with pytest.raises(UserError, match=r"no parameter 'epoch': choose from store, .*epochs"):
        Settings.of(names | {"epoch": 4})


def test_a_folder_beside_us_does_not_hide_a_known_data_set(tmp_path, monkeypatch):
    (tmp_path / "chest_xray").mkdir()
    (tmp_path / "caltech101").mkdir()
    monkeypatch.chdir(tmp_path)
    for chapter, dataset in (
        ("chest-xray-transfer", "chest_xray"),
        ("few-data-caltech", "caltech101"),
    ):
        found = profiles.parameters(chapter, "full", {"dataset": dataset})
        assert found["dataset"] == dataset
