"""What a chapter's Settings accept runs in the smoke profile, or is refused before it trains."""

import random
import re
import typing
from dataclasses import fields, replace
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from lightning.fabric import Fabric

from fewlabels import chapters, data
from fewlabels.chapters import grid, profiles
from fewlabels.data.images import ImageData, Split
from fewlabels.errors import UserError
from fewlabels.kinds import classes, ssl
from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.training import Course, EpochRecipe, Recipe, fit
from fewlabels.nets.backbones import patch_side
from fewlabels.runs.parameters import Range, check
from fewlabels.runs.records import Store

COMPUTING = [name for name in chapters.names() if name != "replication-ledger"]
FIXED = ("store", "device", "precision", "workers", "minutes", "tiny", "dataset", "blood", "derma")


def hints(name):
    return get_type_hints(chapters.load(name).Settings, include_extras=True)


def drawn(hint, usual, rng: random.Random):
    """A small value that the hint allows, or the usual one."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is bool:
        return rng.random() < 0.5
    if origin is Literal:
        return rng.choice(inside)
    if origin is list and get_origin(inside[0]) is Literal:
        allowed = [*get_args(inside[0])]
        return rng.sample(allowed, rng.randint(0, min(2, len(allowed))))
    if origin is Annotated and isinstance(hint.__metadata__[0], Range) and usual <= 10:
        low = hint.__metadata__[0].low
        return rng.choice([low, low + 1, usual])
    return usual


def settings(name, seed):
    """Settings of the smoke profile with a third of the parameters drawn; None: refused."""
    rng = random.Random(seed)
    values = profiles.parameters(name, "smoke")
    for key, hint in hints(name).items():
        if key not in FIXED and rng.random() < 0.34:
            values[key] = drawn(hint, values[key], rng)
    try:
        return chapters.load(name).Settings(**values)
    except UserError as refusal:
        assert any(key in str(refusal) for key in values)
        return None


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("dataset", "blood"), "cifar"),
        (("store",), "elsewhere"),
        (("device",), "tpu"),
        (("precision",), "16"),
        (("workers",), -1),
    ],
    ids=str,
)
def test_what_all_chapters_have_is_refused_by_name(name, keys, value):
    (key,) = {*keys} & {*hints(name)}
    with pytest.raises(UserError, match=f"^{key} is .*{re.escape(repr(value))}.*allowed"):
        profiles.settings(name, **{key: value})


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_a_plan_has_every_run_once_and_behind_those_it_starts_from(name, profile):
    with data.as_in_the_book():
        runs = chapters.load(name).plan(profiles.settings(name, profile))
        order = {run.id: place for place, run in enumerate(runs)}
        assert len(order) == len(runs)
        for run in runs if name != "fusion" else ():  # Those start from runs of chapter 5.
            assert all(order[need.id] < order[run.id] for need in run.needs())


@pytest.mark.parametrize("name", COMPUTING)
def test_what_is_accepted_can_be_planned(name):
    chapter = chapters.load(name)
    accepted = [found for seed in range(40) if (found := settings(name, seed)) is not None]
    assert len(accepted) >= 5
    for each in accepted:
        ids = [run.id for run in chapter.plan(each)]
        assert len(ids) == len({*ids})


@pytest.mark.parametrize("name", COMPUTING)
def test_what_is_accepted_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    store, fabric = Store(tmp_path / "results"), Fabric(accelerator="cpu", precision="32-true")
    found = next(found for seed in range(100, 200) if (found := settings(name, seed)) is not None)
    kinds = {}
    for run in chapters.load(name).plan(found):
        kinds.setdefault((run.kind, getattr(run, "method", ""), getattr(run, "network", "")), run)
    for run in kinds.values():
        assert store.run(run, fabric).seconds >= 0


@pytest.mark.parametrize("name", chapters.names())
def test_every_parameter_refuses_values_of_another_type(name):
    usual = profiles.parameters(name, "smoke")
    for key, hint in hints(name).items():
        if get_origin(hint) is typing.ClassVar:
            continue
        for value in ("false", "12", None, 1.5, [None], {"a": 1}, True):
            kind = type(usual[key])
            if type(value) is kind or (kind is float and isinstance(value, int | float)):
                continue
            with pytest.raises(UserError, match=rf"^{key} is "):
                check(key, value, hint)


# Chapter 5 with other sets than its own


def made_up(size: int, channels: int, train: int, classes: int = 3) -> ImageData:
    generator = torch.Generator().manual_seed(0)

    def split(count):
        shape = (count, channels, size, size)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return Split(images, torch.arange(count) % classes)

    names = tuple(f"class {k}" for k in range(classes))
    return ImageData("cells", "made up", names, "", split(train), split(12), split(10))


@pytest.fixture
def instead(monkeypatch, tmp_path):
    """Puts an image set in the place of the generated cells."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))

    def put(images):
        ssl.task.cache_clear()
        classes._FEATURES.clear()
        monkeypatch.setattr(data, "_load", lambda name: images)
        return Store(tmp_path / "results")

    yield put
    ssl.task.cache_clear()
    classes._FEATURES.clear()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (64, 3)])
def test_every_method_takes_grey_images_and_larger_ones(instead, method, size, channels):
    store, fabric = instead(made_up(size, channels, 24)), Fabric(accelerator="cpu")
    s = replace(profiles.settings("ssl-medmnist", "smoke"), methods=[method])
    start = grid.pretraining(s, "cells", method, 0)
    assert store.run(start, fabric).metrics
    assert store.run(grid.classifier(s, start, "fine-tuned", 1.0), fabric).metrics


@pytest.mark.parametrize("size", [28, 64, 128, 224])
def test_patches_divide_the_image(size):
    assert size % patch_side(size) == 0 and size // patch_side(size) in (7, 8)


def test_colour_steps_leave_grey_images_alone():
    from fewlabels.learn.pretext.simclr import view

    grey = torch.full((4, 1, 28, 28), 100, dtype=torch.uint8)
    found = view("report", 28, blur=False)(grey)
    assert found.shape == (4, 1, 28, 28) and found.unique().numel() == 1


def test_a_last_batch_of_one_takes_another_image(instead):
    """129 images and batches of 128: batch norm refuses a single image."""
    store, fabric = instead(made_up(28, 3, 129)), Fabric(accelerator="cpu")
    s = profiles.settings("ssl-medmnist", "smoke")
    run = replace(grid.supervised(s, "cells", 1.0, 0), tiny=False)
    assert store.run(run, fabric).metrics


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(129, 128, [127, 2]), (130, 128, [128, 2]), (128, 128, [128]), (257, 128, [128, 127, 2])],
)
def test_batches_have_one_image_only_where_there_is_one(count, batch, sizes):
    seen = []

    def loss(module, index):
        seen.append(len(index))
        return module(torch.ones(1, 1)).sum()

    course = Course(epochs=1, rate=0.1, batch_size=batch, drop_last=False, evaluations=0)
    recipe = course.recipe(count)
    fit(torch.nn.Linear(1, 1), loss, count, recipe, Fabric(accelerator="cpu"))
    assert seen == sizes
    # Recipes without epochs keep the batches that records were made with.
    assert not Recipe.pairs and EpochRecipe.pairs
    assert "pairs" not in [item.name for item in fields(EpochRecipe)]


def test_at_most_so_many_images_means_at_most(instead):
    instead(made_up(28, 3, 24))
    assert len(ssl.task("cells", 200, torch.device("cpu")).train.labels) == 24


def test_images_that_lack_a_class_are_refused_by_name(instead):
    images = made_up(28, 3, 24)
    images.train.labels[:] = torch.tensor([0] * 10 + [1] * 8 + [2] * 6)
    store = instead(images)
    told = r"images is 15, and the first 15 of cells show no class 2; allowed: 19 or more"
    with pytest.raises(UserError, match=told):
        s = replace(profiles.settings("ssl-medmnist", "smoke"), images=100)
        run = replace(grid.supervised(s, "cells", 1.0, 0), images=15)
        store.run(run, Fabric(accelerator="cpu"))
