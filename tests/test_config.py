import math
from typing import Literal, get_origin, get_type_hints

import pytest

from fewlabels import chapters, config
from fewlabels.chapters import profiles
from fewlabels.errors import UserError


def test_one_of_names_the_key_the_value_and_what_is_allowed():
    config.one_of("device", "cpu", ("auto", "cpu"))
    with pytest.raises(UserError, match=r"^device is 'gpu'; allowed: auto, cpu$"):
        config.one_of("device", "gpu", ("auto", "cpu"))


@pytest.mark.parametrize("chapter", chapters.names())
def test_every_chapter_refuses_what_a_literal_parameter_does_not_name(chapter):
    settings = chapters.load(chapter).Settings
    hints = get_type_hints(settings)
    for key in [key for key in hints if get_origin(hints[key]) is Literal]:
        with pytest.raises(UserError, match=f"^{key} is 'nonsense'; allowed: "):
            settings(**profiles.parameters(chapter) | {key: "nonsense"})


@pytest.mark.parametrize("value", [0, 3, 10])
def test_whole_numbers_within_the_bounds_pass(value):
    config.whole("draw", value, 0, 10)
    config.whole("draw", value, 0)


@pytest.mark.parametrize("value", [-1, 11, 2.0, "2", True, None, math.nan])
def test_whole_refuses_what_is_not_a_whole_number_within_the_bounds(value):
    with pytest.raises(UserError, match=r"^draw is .*; allowed: a whole number, 0 to 10$"):
        config.whole("draw", value, 0, 10)


def test_whole_without_an_upper_end():
    config.whole("draw", 10**9, 1)
    with pytest.raises(UserError, match="1 or more"):
        config.whole("draw", 0, 1)


@pytest.mark.parametrize("value", [1e-9, 1, 2.5])
def test_positive_numbers_pass(value):
    config.positive("rate", value)


@pytest.mark.parametrize("value", [0, -0.1, math.inf, math.nan, "1", None, True])
def test_positive_refuses_everything_else(value):
    with pytest.raises(UserError, match=r"^rate is .*; allowed: a number above zero$"):
        config.positive("rate", value)


def test_zero_passes_only_where_it_may():
    config.positive("weight_decay", 0.0, or_zero=True)
    with pytest.raises(UserError, match="at least zero"):
        config.positive("weight_decay", -1, or_zero=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None])
def test_finite_refuses_what_is_no_finite_number(value):
    config.finite("minutes", -1.5)
    config.finite("minutes", 0)
    with pytest.raises(UserError, match=r"^minutes is .*; allowed: a number, or else$"):
        config.finite("minutes", value, "a number, or else")


@pytest.mark.parametrize("value", [[1, 2, 1], [[1], [1]], 3, (1, 2), None])
def test_distinct_refuses_what_is_no_list_of_different_values(value):
    config.distinct("seeds", [2, 1])
    config.distinct("seeds", [])
    with pytest.raises(UserError, match=r"^seeds is .*; allowed: a list of different values$"):
        config.distinct("seeds", value)
