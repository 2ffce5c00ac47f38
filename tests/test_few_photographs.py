from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from toy_runs import measured

from fewlabels import evidence as ev
from fewlabels.book import recognition
from fewlabels.chapters import few_data_caltech as chapter
from fewlabels.chapters import profiles
from fewlabels.data import duplicates, photographs
from fewlabels.data.corners import borders, corner_colours, covered
from fewlabels.errors import UserError
from fewlabels.kinds import few_photographs, photograph_features
from fewlabels.kinds.few_photographs import (
    AUGMENTATIONS,
    CornerColours,
    ScratchClassification,
    parts,
)
from fewlabels.kinds.photograph_features import FeatureClassification, FineTuning, Headed, views
from fewlabels.kinds.recognition import FILES, Recognition, recogniser_of
from fewlabels.learn import evaluation
from fewlabels.learn.training import Recipe
from fewlabels.nets.blocks import Concatenated, blocks, mlp
from fewlabels.nets.pretrained import Pretrained, backbone
from fewlabels.nets.recogniser import Answer, Recogniser
from fewlabels.nets.sheet_cnn import SheetCNN
from fewlabels.runs.records import Store

CLASSES = ("cross", "disc", "square", "triangle")
COMMON = {"dataset": "shapes", "classes": CLASSES, "split": 0}
RANDOM = Pretrained("resnet18", "random")
RECIPE = Recipe(30, 16, rate=0.001, evaluations=3)
SCRATCH = ScratchClassification(**COMMON, size=32, training=RECIPE)
HEAD = FeatureClassification(**COMMON, size=32, source=RANDOM, training=RECIPE)
NOTHING = Recipe(0, 16, rate=0.001, evaluations=0)
SHORT = Recipe(6, 16, rate=1e-4, evaluations=3)


pytestmark = pytest.mark.usefixtures("one_thread", "store")


@pytest.fixture(scope="module")
def photos():
    return photographs.load("shapes", CLASSES, 32)


def count(module):
    return sum(p.numel() for p in module.parameters())


# Networks


def test_the_sheets_network_has_the_parameters_counted_by_hand():
    # Two 3 x 3 convolutions, 224 pixels halved twice, a hidden layer of 100, four classes.
    convolutions = (3 * 32 * 9 + 32) + (32 * 64 * 9 + 64)
    dense = (56 * 56 * 64 * 100 + 100) + (100 * 4 + 4)
    with torch.device("meta"):
        network = SheetCNN(224, 4)
    assert count(network) == convolutions + dense == 20_090_296


def test_the_sheets_network_is_convolution_relu_pooling_as_tensorflow_pads():
    """Written out with ReLU before pooling, and padding as TensorFlow's `same` for even sizes."""
    torch.manual_seed(0)
    network = SheetCNN(32, 4).eval()
    images = torch.rand(5, 3, 32, 32)
    first, second = (m for m in network.backbone if isinstance(m, nn.Conv2d))
    x = images
    for convolution in (first, second):
        x = torch.relu(convolution(x))
        # One row and column of nothing after the last: (16 - 1) * 2 + 3 - 32 = 1.
        x = nn.functional.pad(x, (0, 1, 0, 1), value=-torch.inf)
        x = nn.functional.max_pool2d(x, 3, stride=2)
    assert torch.allclose(network(images), network.head(x.flatten(1)), atol=1e-6)


def test_the_sheets_network_starts_as_in_keras():
    torch.manual_seed(0)
    network = SheetCNN(32, 4)
    hidden = network.head[0]
    limit = (6 / (64 * 8 * 8 + 100)) ** 0.5
    assert hidden.bias.abs().max() == 0
    assert 0.99 * limit < hidden.weight.abs().max() <= limit


def test_dropout_and_other_filters_change_what_they_say():
    network = SheetCNN(32, 4, filters=(8, 8, 8), dropout=0.5)
    assert count(network.head) == (8 * 4 * 4 * 100 + 100) + 404
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    assert torch.equal(network.eval()(images), network(images))
    with pytest.raises(UserError, match="size is 36"):
        SheetCNN(36, 4, filters=(8, 8, 8))


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("vgg11", 512)])
def test_blocks_are_the_network_up_to_its_last_map(name, channels):
    torch.manual_seed(0)
    whole = backbone(Pretrained(name, "random")).eval()
    own = blocks(whole)
    assert len(own) == 5
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        maps = nn.Sequential(*own).eval()(images)
        assert maps.shape == (2, channels, 2, 2)
        if name == "resnet18":
            assert torch.allclose(maps.mean(dim=(2, 3)), whole(images), atol=1e-5)
        else:
            expected = whole.body.features(whole.normalised(images))
            assert torch.allclose(maps, expected, atol=1e-6)


def test_unit_pixels_are_divided_by_255_alone():
    whole = backbone(RANDOM)
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    pixels = blocks(whole, normalised=False)[0][0]
    assert pixels(images).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert torch.allclose(blocks(whole)[0][0](images), whole.normalised(images))


def test_other_architectures_cannot_be_cut():
    with pytest.raises(UserError, match="resnet18, vgg16"):
        blocks(backbone(Pretrained("squeezenet1_0", "random")))


def test_batch_norm_stays_as_it_is_while_the_rest_is_trained():
    torch.manual_seed(0)
    network = Concatenated(blocks(backbone(RANDOM))[3:], mlp(512, 10, 4)).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    network(torch.rand(3, 128, 4, 4)).sum().backward()
    assert before
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())
    assert network.head.training
    assert all(p.grad is not None for p in network.parameters())


# Images and splits


def test_a_split_is_seventy_to_thirty_by_class(photos):
    train, test = parts("shapes", CLASSES, 0, 0, "test")
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(56))
    # 0.3 * 56 = 16.8, and scikit-learn rounds the test part up.
    assert len(test) == 17
    assert photos.labels[test].bincount().min() >= 4
    other = parts("shapes", CLASSES, 1, 0, "test")[1]
    assert not torch.equal(test, other)


def test_the_sheets_split_has_123_and_54_images():
    labels = torch.arange(4).repeat_interleave(torch.tensor([55, 42, 47, 33]))
    train, test = few_photographs._divided(labels, torch.arange(177), 0.3, 0)
    assert (len(train), len(test)) == (int(0.7 * 177), 54)
    assert labels[test].bincount().tolist() == [17, 13, 14, 10]


def test_validation_images_are_part_of_the_training_part():
    train, test = parts("shapes", CLASSES, 3, 0, "test")
    kept, held = parts("shapes", CLASSES, 3, 0, "validation")
    assert sorted([*kept.tolist(), *held.tolist()]) == train.tolist()
    assert not set(held.tolist()) & set(test.tolist())


def test_fewer_labels_are_nested_and_balanced(photos):
    drawn = [set(parts("shapes", CLASSES, 0, k, "test")[0].tolist()) for k in (1, 2, 5)]
    assert drawn[0] < drawn[1] < drawn[2] < set(parts("shapes", CLASSES, 0, 0, "test")[0].tolist())
    assert photos.labels[sorted(drawn[2])].bincount().tolist() == [5] * 4


def test_covers_are_complements_and_touch_the_sides():
    images = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    outside, inside = (covered(images, cover) > 0 for cover in ("outside", "inside"))
    assert torch.equal(outside, ~inside)
    assert covered(images, "nothing") is images
    # The ellipse covers pi / 4 of the rectangle.
    assert inside.float().mean().item() == pytest.approx(np.pi / 4, abs=0.01)
    assert inside[0, 0, 20, 0] and inside[0, 0, 0, 30] and outside[0, 0, 0, 0]


def test_corner_colours_by_hand():
    images = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    images[0, 0, :20, :20] = 255
    images[0, :, 10:30, 10:30] = 77  # inside the ellipse: plays no part
    found = corner_colours(images)[0].view(4, 2, 3)
    assert found[0].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert found[1:].abs().max() == 0


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_keep_shape_and_range(name):
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32) * 0.5 + 0.25
    changed = AUGMENTATIONS[name](images)
    assert changed.shape == images.shape
    assert changed.min() >= 0.25 - 1e-5 and changed.max() <= 0.75 + 1e-5
    assert torch.equal(changed, images) == (name == "none")


def test_views_are_mirrored_once_or_drawn_a_few_times():
    images = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    (flip,) = views("vertical flip")
    assert torch.equal(flip.transform(images), images.flip(2))
    (flip,) = views("horizontal flip")
    assert torch.equal(flip.transform(images), images.flip(3))
    drawn = views("crops")
    assert [view.seed for view in drawn] == [0, 1]
    assert views("none") == []


# Runs


@pytest.mark.parametrize(
    "change",
    [{}, *({"augmentation": name} for name in AUGMENTATIONS if name != "none"), {"dropout": 0.5}],
    ids=str,
)
def test_the_network_from_scratch_learns(store, fabric, change):
    recipe = Recipe(40, 16, rate=0.002, evaluations=4)
    record = store.run(replace(SCRATCH, training=recipe, **change), fabric)
    losses = record.curves["train_loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert record.predictions["classes"].shape == (17,)


def test_an_mlp_on_features_learns_and_leaves_its_weights(store, fabric):
    record = store.run(HEAD, fabric)
    assert record.curves["train_loss"][-1] < 0.9 * record.curves["train_loss"][0]
    weights = store.weights(HEAD, fabric)
    assert {k: tuple(v.shape) for k, v in weights.items()} == {
        "0.weight": (100, 512),
        "0.bias": (100,),
        "2.weight": (4, 100),
        "2.bias": (4,),
    }
    trained = 512 * 100 + 100 + 404
    resnet = 11_176_512  # without its last layer of 1,000 classes
    assert record.parameters == {"trained": trained, "total": resnet + trained}


@pytest.mark.parametrize(
    "change",
    [
        {"readout": "kNN"},
        {"readout": "linear probe"},
        {"feature": "map"},
        {"pixels": "unit"},
        {"augmentation": "crops"},
        {"augmentation": "vertical flip"},
        {"cover": "outside"},
        {"labels": 2},
        {"scored_on": "validation"},
    ],
    ids=str,
)
def test_variants_on_features_run_and_differ(store, fabric, change):
    run = replace(HEAD, **change)
    record = store.run(run, fabric)
    assert 0 <= record.metrics["accuracy"] <= 1
    assert run.id != HEAD.id
    assert run.cell() != HEAD.cell()


def test_features_are_those_of_the_whole_network(fabric, photos):
    found = photograph_features._kept_features(
        *(RANDOM, "shapes", CLASSES, 32, "nothing", "pooled", "own", "none", 0, fabric.device)
    )
    torch.manual_seed(0)
    whole = backbone(RANDOM).eval()
    with torch.no_grad():
        assert torch.allclose(found[:9], whole(photos.images[:9]), atol=1e-4)


def test_concatenated_without_training_is_the_same_classifier(store, fabric):
    """Section 1.6: with the trained MLP the same answers, with a new one guesses."""
    joined = store.run(FineTuning("shapes", HEAD, 0, NOTHING), fabric)
    separate = store.run(HEAD, fabric)
    assert np.array_equal(joined.predictions["classes"], separate.predictions["classes"])
    assert joined.metrics["nll"] == pytest.approx(separate.metrics["nll"], abs=1e-4)
    assert joined.parameters["trained"] == 0
    new = store.run(FineTuning("shapes", replace(HEAD, training=NOTHING), 0, NOTHING), fabric)
    assert new.metrics["nll"] != pytest.approx(separate.metrics["nll"], abs=1e-3)


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_fine_tuning_lowers_the_loss_of_a_new_head(store, fabric, number):
    head = replace(HEAD, training=NOTHING)
    record = store.run(FineTuning("shapes", head, number, replace(SHORT, rate=0.001)), fabric)
    losses = record.curves["train_loss"]
    assert losses[-1] < losses[0]
    whole = {0: 0, 1: 8_393_728, 2: 10_493_440, 5: 11_176_512}
    assert record.parameters["trained"] == whole[number] + 512 * 100 + 100 + 404


def test_kept_outputs_of_frozen_blocks_are_exact(store, fabric, monkeypatch):
    """Training on kept outputs gives what training through the frozen blocks gives."""
    run = FineTuning("shapes", HEAD, 1, SHORT)
    store.require_weights(HEAD, fabric)  # As a store does before a run seeds itself.
    kept = run.execute(fabric, store)
    calls = []

    def recomputed(head, fixed, device):
        images = photographs.load(head.dataset, head.classes, head.size).images
        first = nn.Sequential(*head.network()[:fixed]).eval()
        calls.append(fixed)
        with torch.no_grad():
            return torch.cat([first(image.unsqueeze(0)) for image in images])

    monkeypatch.setattr(photograph_features, "_kept_maps", recomputed)
    again = run.execute(fabric, store)
    assert calls == [4]
    assert again.metrics["nll"] == pytest.approx(kept.metrics["nll"], abs=1e-4)
    assert again.curves["train_loss"] == pytest.approx(kept.curves["train_loss"], abs=1e-4)


def test_fine_tuning_leaves_the_pretrained_blocks_for_others(store, fabric):
    before = photograph_features._blocks(RANDOM, "own")[-1].state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    FineTuning("shapes", HEAD, 1, SHORT).execute(fabric, store)
    after = photograph_features._blocks(RANDOM, "own")[-1].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_corners_alone_are_scored(store, fabric):
    record = store.run(CornerColours(**COMMON, size=32), fabric)
    assert 0 <= record.metrics["accuracy"] <= 1


@pytest.mark.parametrize("run", [SCRATCH, FineTuning("shapes", HEAD, 1, SHORT)], ids=["s", "f"])
def test_a_run_repeats_itself_in_another_store(store, fabric, tmp_path, run):
    first = store.run(run, fabric)
    torch.manual_seed(123)
    assert measured(Store(tmp_path).run(run, fabric)) == measured(first)


def test_scores_are_those_of_the_test_part(store, fabric, photos):
    record = store.run(SCRATCH, fabric)
    truth = photos.labels[parts("shapes", CLASSES, 0, 0, "test")[1]].numpy()
    right = record.predictions["classes"] == truth
    assert record.metrics["accuracy"] == pytest.approx(right.mean())


def test_validation_runs_never_score_test_images(fabric, store, monkeypatch):
    scored = []
    whole = evaluation.evaluate

    def noted(probabilities, truth):
        scored.append(len(truth))
        return whole(probabilities, truth)

    monkeypatch.setattr(evaluation, "evaluate", noted)
    for run in (SCRATCH, HEAD):
        replace(run, scored_on="validation").execute(fabric, store)
    held = len(parts("shapes", CLASSES, 0, 0, "validation")[1])
    assert scored == [held, held]
    assert held != 17


@pytest.mark.parametrize(
    ("run", "change"),
    [
        (SCRATCH, {"dataset": "cifar"}),
        (SCRATCH, {"classes": ("disc",)}),
        (SCRATCH, {"split": -1}),
        (SCRATCH, {"labels": 1.5}),
        (SCRATCH, {"cover": "all"}),
        (SCRATCH, {"scored_on": "train"}),
        (SCRATCH, {"augmentation": "mixup"}),
        (SCRATCH, {"dropout": -0.1}),
        (HEAD, {"feature": "mean"}),
        (HEAD, {"pixels": "raw"}),
        (HEAD, {"readout": "svm"}),
        (HEAD, {"hidden": 0}),
    ],
)
def test_impossible_settings_are_refused_by_name(run, change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(run, **change)


def test_impossible_fine_tuning_is_refused(fabric, store):
    with pytest.raises(UserError, match="readout mlp"):
        FineTuning("shapes", replace(HEAD, readout="kNN"), 1, SHORT)
    with pytest.raises(UserError, match="blocks is 9"):
        FineTuning("shapes", HEAD, 9, SHORT).execute(fabric, store)


# New photographs


class Painted(nn.Module):
    """Says red, green or blue, by the mean colour."""

    def forward(self, pixels):
        return pixels.float().mean(dim=(2, 3)) / 255


def test_a_recogniser_ranks_the_classes_with_confidence(tmp_path):
    Image.new("RGB", (50, 30), (0, 255, 128)).save(tmp_path / "x.png")
    answer = Recogniser(Painted(), ("red", "green", "blue"), 32, "cpu")(tmp_path / "x.png")
    assert [name for name, _ in answer.ranking] == ["green", "blue", "red"]
    weights = np.exp([1, 128 / 255, 0])
    assert [p for _, p in answer.ranking] == pytest.approx(weights / weights.sum(), abs=1e-3)
    assert answer.remarks == ()


def test_a_recogniser_says_what_it_did_to_the_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    image = Image.new("LA", (50, 30), (200, 0))
    image.save(tmp_path / "x.png", exif=exif)
    answer = Recogniser(Painted(), ("red", "green", "blue"), 32, "cpu")(tmp_path / "x.png")
    assert answer.remarks == ("grey", "turned upright", "transparent parts shown white")
    assert [p for _, p in answer.ranking] == pytest.approx([1 / 3] * 3)


def test_recognition_through_files_agrees_with_the_run(store, fabric):
    record = store.run(Recognition("shapes", HEAD), fabric)
    own = store.run(HEAD, fabric).metrics["accuracy"]
    assert record.metrics["accuracy, as it is"] == pytest.approx(own)
    noted = record.metrics["accuracy, sideways, noted in the file"]
    assert abs(noted - own) <= 2 / 17  # JPEG
    assert {f"accuracy, {kind}" for kind in FILES} <= record.metrics.keys()
    china = record.predictions["probabilities, china.jpg"]
    assert china.sum() == pytest.approx(1, abs=1e-2)


def test_the_recogniser_of_a_run_names_as_the_run_did(store, fabric, tmp_path, photos):
    recogniser = recogniser_of(HEAD, fabric, store)
    test = parts("shapes", CLASSES, 0, 0, "test")[1]
    drawn = photographs.decoded("shapes", CLASSES)
    named = []
    for position in test.tolist():
        drawn[position][2].image.save(tmp_path / "x.png")
        named.append(CLASSES.index(recogniser(tmp_path / "x.png").ranking[0][0]))
    assert named == store.run(HEAD, fabric).predictions["classes"].tolist()


def test_an_answer_in_words():
    answer = Answer("photo.jpg", (("disc", 0.75), ("triangle", 0.25)), ("grey",))
    assert list(recognition.in_words(answer)) == [
        "photo.jpg  (grey)",
        "  disc       75.0%",
        "  triangle   25.0%",
    ]


# The plan and what is made of it


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", "anchor"),
        ("classes", ["anchor"]),
        ("networks", []),
        ("networks", [["vgg16"]]),
        ("size", 100),
        ("tuning_size", 0),
        ("scratch_size", 50),
        ("splits", 0),
        ("native_splits", 21),
        ("deep_splits", -1),
        ("labels_per_class", [0]),
        ("blocks", [6]),
        ("chosen_blocks", [6]),
        ("search_splits", 21),
        ("tuning_steps", 0),
    ],
)
def test_settings_refuse_what_cannot_be_by_name(key, value):
    with pytest.raises(UserError, match=f"^{key} "):
        profiles.settings(chapter.NAME, **{key: value})


def test_naming_photographs_on_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="device is 'mps'"):
        recognition.prepared(profiles.parameters(chapter.NAME, "smoke") | {"device": "mps"})


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match="resnet19"):
        profiles.settings(chapter.NAME, networks=["resnet19"])


def test_runs_of_one_cell_differ_in_their_split_alone():
    cells = {}
    for run in chapter.plan(profiles.settings(chapter.NAME)):
        images = run.head if isinstance(run, Headed) else getattr(run, "search", run)
        cells.setdefault(tuple(run.cell().values()), []).append(images.split)
    for cell, found in cells.items():
        assert len(set(found)) == len(found), cell
        assert set(found) == {1000} or min(found) == 0, cell


def test_the_main_comparisons_have_every_split():
    runs = chapter.plan(profiles.settings(chapter.NAME))
    counts = Counter(run.cell()["method"] for run in runs if run.cell()["labels"] == "all")
    for method in (
        "small CNN, 48 px",
        "resnet18, 224 px, mlp",
        "resnet50, 224 px, mlp",
        "resnet18, 128 px, mlp, 0 blocks unfrozen at 1e-05",
    ):
        assert counts[method] == 20, method


def test_weights_at_hand_are_the_books_or_the_sheets(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    (source,) = chapter.networks(profiles.settings(chapter.NAME, networks=["at hand"]))
    assert (source.architecture, source.weights) == ("vgg16", "torchvision")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18_imagenet_pq.pth.xz").touch()
    (source,) = chapter.networks(profiles.settings(chapter.NAME, networks=["at hand"]))
    assert (source.architecture, source.weights) == ("resnet18", "resnet18_imagenet_pq.pth.xz")


def test_every_kind_of_run_says_that_its_splits_share_images():
    planned = chapter.plan(profiles.settings(chapter.NAME, "smoke"))
    found = ev.frame(planned, Store("nowhere"))
    kinds = {"scratch", "features", "finetuning", "corners", "recognition"}
    assert set(found["kind"]) == kinds | {"search", "searched", "chosen-tuning"}
    assert found["overlap"].unique() == pytest.approx([3 / 7])
    splits = found["split"].fillna(found["head_split"]).fillna(found["search_split"])
    assert (found["draw"] == splits).all()
    # What an interval needs is no part of what a run is.
    assert "overlap" not in SCRATCH.describe()


def test_twins_are_found_upright_and_mirrored(photos):
    images = torch.cat([photos.images[:6], photos.images[2:3], photos.images[4:5].flip(3)])
    found = duplicates.twins(images)
    pairs = {(pair.first, pair.second): pair.mirrored for pair in found.itertuples()}
    assert not pairs[2, 6]
    assert pairs[4, 7]


def test_a_test_image_with_a_twin_in_training_is_not_new():
    pairs = pd.DataFrame({"first": [0, 2], "second": [3, 4]})
    new = duplicates.without_twin(pairs, torch.tensor([0, 4]), torch.tensor([1, 2, 3]))
    assert new.tolist() == [True, False, False]


def test_mistakes_are_counted_by_photograph():
    labels = np.array([0, 1, 2, 2])
    tested = [np.array([0, 2]), np.array([2, 3])]
    found = evaluation.mistakes([np.array([0, 1]), np.array([1, 2])], tested, labels, 3)
    worst = found.iloc[0]
    assert (worst["position"], worst["tested"], worst["wrong"], worst["taken_for"]) == (2, 2, 2, 1)
    assert found["wrong"].sum() == 2
    assert found.sort_values("position")["tested"].tolist() == [1, 0, 2, 1]


def test_border_shares_by_hand():
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[1] = 255
    images[:, :, 8:24, 8:24] = 128  # inside the ellipse: plays no part
    assert borders(images).tolist() == [[1, 0], [0, 1]]
