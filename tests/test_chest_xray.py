import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fewlabels import data
from fewlabels import evidence as ev
from fewlabels.book import ledger
from fewlabels.chapters import chest_xray_transfer as chapter
from fewlabels.chapters import profiles
from fewlabels.chapters.profiles import parameters
from fewlabels.data import Split, chest_xray, generated_xrays, medmnist, pneumonia_mnist, xrays
from fewlabels.errors import UserError
from fewlabels.evidence.imbalance import causes
from fewlabels.kinds import chest_xray as runs
from fewlabels.kinds import xray_questions
from fewlabels.kinds.chest_xray import HeadTraining, best_threshold, crop, moved_threshold, parts
from fewlabels.kinds.xray_networks import NetworkTraining, ReportFineTuning, deformed, resized
from fewlabels.kinds.xray_questions import (
    DomainShift,
    Heatmaps,
    Scored,
    UnmatchedImages,
    class_maps,
    correlations,
    outside,
)
from fewlabels.learn.features import extract
from fewlabels.learn.training import Recipe
from fewlabels.nets.maps import last_maps
from fewlabels.nets.pretrained import Pretrained, backbone, tensor_sizes
from fewlabels.nets.xray_cnn import SmallXrayNet, TenConvolutions

CPU = torch.device("cpu")
SOURCE = Pretrained("resnet18", "random")
SGD = Recipe(30, 32, rate=0.01, optimiser="plain sgd", evaluations=3)
ADAM = Recipe(25, 24, rate=0.002, optimiser="adamw", evaluations=2)
HEAD = HeadTraining("generated_xrays", "tuned", 0, ADAM, source=SOURCE, size=32)
REPORT = replace(
    HEAD, protocol="report", training=SGD, by_patient=False, train_view="crop", test_view="crop"
)
FEW = replace(ADAM, steps=12, batch_size=16)
BRIEF = replace(ADAM, steps=8, batch_size=16)
SMALL = NetworkTraining("generated_xrays", "tuned", 0, FEW, network="small", size=32)
TRAINED = {
    "report": REPORT,
    "report, whole test": replace(REPORT, test_view="whole", crops=2),
    "tuned": HEAD,
    "weights": replace(HEAD, balance="weights"),
    "sampling": replace(HEAD, balance="sampling"),
    "three classes": replace(HEAD, classes=3),
    "few labels": replace(HEAD, labels=20),
    "small": SMALL,
    "small, augmented": replace(SMALL, augmented=True, balance="weights"),
    "last block": replace(SMALL, network="last block", source=SOURCE),
    "all layers": replace(SMALL, network="all layers", source=SOURCE, training=BRIEF),
    "report, all layers": ReportFineTuning(
        "generated_xrays",
        "report",
        0,
        replace(SGD, steps=18, batch_size=16, rate=0.01),
        by_patient=False,
        network="all layers",
        size=32,
        source=SOURCE,
    ),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    return generated_xrays.load()


@pytest.fixture(scope="module")
def store(store):
    forget()
    return store


def forget():
    for kept in (data._load, runs.xrays, runs.frozen_features, runs.layer3, resized):
        kept.cache_clear()


# Data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The Kaggle layout with seven images of different sizes and modes."""
    names = {
        "train/NORMAL": ("IM-0001-0001.jpeg", "NORMAL2-IM-0001-0001.jpeg"),
        "train/PNEUMONIA": ("person1_bacteria_1.jpeg", "person1_virus_9.jpeg"),
        "val/NORMAL": ("IM-0007-0001.jpeg",),
        "test/NORMAL": ("IM-0001-0001.jpeg",),
        "test/PNEUMONIA": ("person1_virus_6.jpeg",),
    }
    for k, (place, files) in enumerate(names.items()):
        (tmp_path / "chest_xray" / place).mkdir(parents=True)
        for file in files:
            mode, colour = ("RGB", (40 * k,) * 3) if k % 2 else ("L", 40 * k)
            Image.new(mode, (30 + k, 20), colour).save(tmp_path / "chest_xray" / place / file)
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    chest_xray._checksum.cache_clear()
    return tmp_path / "chest_xray"


def test_the_kaggle_folder_becomes_grey_tensors_and_val_joins_training(folder):
    found = chest_xray.load()
    assert found.train.images.shape == (5, 1, 224, 224)
    assert found.train.labels.tolist() == [0, 0, 1, 1, 0]
    assert found.train.images[:, 0, 100, 100].tolist() == [0, 0, 40, 40, 80]
    assert found.test.labels.tolist() == [0, 1]
    assert found.train_files[-1] == "val/NORMAL/IM-0007-0001.jpeg"
    assert "resized" in found.title
    assert found.md5 == chest_xray.md5() != chest_xray.RESIZED


def test_decoded_images_are_kept_until_a_file_changes(folder, monkeypatch):
    before = chest_xray.load()
    monkeypatch.setattr(chest_xray, "_grey", None)
    assert torch.equal(chest_xray.load().train.images, before.train.images)
    Image.new("L", (30, 20), 200).save(folder / "train/NORMAL/IM-0001-0001.jpeg")
    chest_xray._checksum.cache_clear()
    assert chest_xray.md5() != before.md5


@pytest.mark.parametrize("content", [b"", None, {"train_images": torch.zeros(2)}])
def test_decoded_images_that_are_damaged_are_decoded_again(folder, tmp_path, content):
    before = chest_xray.load()
    (kept,) = (tmp_path / "cache/data").glob("*.pt")
    if isinstance(content, dict):
        torch.save(content, kept)
    else:
        kept.write_bytes(kept.read_bytes()[:1000] if content is None else content)
    with pytest.warns(UserWarning, match=f"{kept.name} was moved to .*set-aside"):
        again = chest_xray.load()
    assert torch.equal(again.test.images, before.test.images)
    assert torch.equal(chest_xray.load().test.images, before.test.images)


def test_missing_and_broken_files_are_named_with_the_remedy(folder, monkeypatch):
    (folder / "test/PNEUMONIA/person1_virus_6.jpeg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"person1_virus_6.jpeg is no image that can be read"):
        chest_xray.load()
    (folder / "test/PNEUMONIA/person1_virus_6.jpeg").unlink()
    chest_xray._checksum.cache_clear()
    with pytest.raises(UserError, match=r"test/PNEUMONIA holds no images.*Kaggle layout"):
        chest_xray.load()
    monkeypatch.setenv("FEWLABELS_DATA", str(folder / "elsewhere"))
    with pytest.raises(UserError, match=r"--profile quick.*dataset=pneumonia") as caught:
        chest_xray.load()
    remedy = re.findall(r"(\w+)=(\w+)", str(caught.value))
    parameters("chest-xray-transfer", "full", dict(remedy))
    assert parameters("chest-xray-transfer", "quick")["dataset"] == "pneumonia"
    monkeypatch.delenv("FEWLABELS_DATA")
    with pytest.raises(UserError, match="chest_xray is missing"):
        chest_xray.load()
    assert chest_xray.md5() == chest_xray.RESIZED


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("train/NORMAL/x.JPEG", None),
        ("train/NORMAL/._IM-0001-0001.jpeg", None),
        ("train/.DS_Store", None),
        ("train/NORMAL/notes.txt", r"train/NORMAL/notes\.txt is no image file"),
        ("train/COVID/x.jpeg", r"train/COVID belongs to no class"),
        ("test/x.jpeg", r"test/x\.jpeg belongs to no class"),
    ],
)
def test_nothing_in_the_folder_is_passed_over_in_silence(folder, name, told):
    (folder / name).parent.mkdir(exist_ok=True)
    Image.new("L", (30, 20)).save(folder / name, format="JPEG")
    if told:
        with pytest.raises(UserError, match=told):
            chest_xray.load()
    else:
        assert len(chest_xray.load().train.labels) == 5 + name.endswith("JPEG")


@pytest.fixture
def own_folder(folder, monkeypatch):
    """36 training and 21 test images of a reader's own, under names that tell nothing."""
    shutil.rmtree(folder)
    counts = {"train/NORMAL": 12, "train/PNEUMONIA": 24, "test/NORMAL": 10, "test/PNEUMONIA": 11}
    for place, count in counts.items():
        (folder / place).mkdir(parents=True)
        for k in range(count):
            Image.new("L", (32, 32), k).save(folder / place / f"film {k}.png")
    monkeypatch.setattr(data, "_load", data._load.__wrapped__)
    data._md5.cache_clear()
    yield folder
    data._md5.cache_clear()


OWN = {"dataset": "chest_xray", "three_class_seeds": 0, "unmatched": False, "label_numbers": [8]}


def test_steps_and_titles_follow_from_the_images_that_are_there(own_folder):
    s = profiles.settings(chapter.NAME, "full", **OWN, epochs=1)
    # 29 of 36 images train: one batch of 32.
    assert chapter.report_recipe(s).steps == 1
    found = data.load("chest_xray")
    assert found.title == "a folder of 57 chest X-rays, resized to 224 x 224"
    table = xrays.overview(found)
    assert table["Images"].tolist() == [12, 24, 10, 11]
    assert {*table["Patients"]} == {"unknown"}
    assert {*table["Bacterial / viral"]} == {"\N{EN DASH}"}
    assert xrays.kinds(found)[0] == ("normal", "pneumonia")
    with data.as_in_the_book():
        book = profiles.settings(chapter.NAME, "full", epochs=1)
        assert chapter.report_recipe(book).steps == 131


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"three_class_seeds": 1}, "do not say which pneumonia"),
        ({"unmatched": True}, "not Kaggle's images; allowed: false"),
        ({"label_numbers": [8, 20]}, r"label_numbers is \[8, 20\]; allowed .* at most 18"),
    ],
)
def test_what_a_folder_cannot_show_is_refused_at_once(own_folder, changed, told):
    with pytest.raises(UserError, match=told):
        chapter.plan(profiles.settings(chapter.NAME, "full", **OWN | changed))


def test_a_folder_of_too_few_images_is_refused(own_folder):
    (own_folder / "test/NORMAL/film 3.png").unlink()
    with pytest.raises(UserError, match=r"test/NORMAL has images of 9 patients: at least 10"):
        chapter.plan(profiles.settings(chapter.NAME, "full", **OWN))
    with data.as_in_the_book():
        chapter.plan(profiles.settings(chapter.NAME, "full"))


def test_a_pneumonia_of_an_unknown_kind_is_never_taken_for_a_normal_image(images):
    assert xrays.tell_kinds(["person1_bacteria_1.png", "IM-1.png"], [1, 0])
    assert not xrays.tell_kinds(["film.png", "IM-1.png"], [1, 0])
    assert not xrays.tell_kinds(["person1_bacteria_1.png", "virus.png"], [1, 0])
    assert not xrays.tell_kinds([], [])
    k = next(i for i, label in enumerate(images.train.labels) if label)
    renamed = (*images.train_files[:k], "PNEUMONIA/film.png", *images.train_files[k + 1 :])
    with pytest.raises(UserError, match="classes is 3, but the names"):
        xrays.three_classes(replace(images, train_files=renamed))


def test_a_test_file_that_has_gone_is_named(monkeypatch, fabric, store):
    table = pd.DataFrame({"split": "test", "confident": 1, "kermany_file": ["gone.jpeg"]})
    monkeypatch.setattr(pneumonia_mnist, "matches", lambda: table)
    monkeypatch.setattr(runs.data, "load", lambda name: generated_xrays.load())
    with pytest.raises(UserError, match=r"chest_xray has no gone\.jpeg.*unmatched=false"):
        UnmatchedImages("generated_xrays").execute(fabric, store)


def test_pneumoniamnist_from_another_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"pneumoniamnist.npz is missing"):
        pneumonia_mnist.load(28)
    (tmp_path / "medmnist").mkdir()
    (tmp_path / "medmnist/pneumoniamnist.npz").write_bytes(b"partial")
    with pytest.raises(UserError, match=r"is not the official file.*delete it"):
        pneumonia_mnist.load(28)
    with pytest.raises(UserError, match="unmatched=false"):
        pneumonia_mnist.matches()


def test_pneumoniamnist_keeps_its_validation_images(tmp_path, monkeypatch):
    path = tmp_path / "medmnist" / "pneumoniamnist.npz"
    path.parent.mkdir()
    sizes = {"train": 5, "val": 3, "test": 2}
    arrays = {f"{part}_images": np.full((n, 28, 28), n, np.uint8) for part, n in sizes.items()}
    arrays |= {f"{part}_labels": np.ones((n, 1), np.uint8) for part, n in sizes.items()}
    np.savez(path, **arrays)
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    assert pneumonia_mnist.md5(64) == medmnist.INFO["pneumoniamnist"]["MD5_64"]
    merged = medmnist.Rebuild(pneumonia_mnist.md5(28), "merged from partial copies")
    monkeypatch.setitem(medmnist.REBUILDS, "pneumoniamnist", merged)
    found = pneumonia_mnist.load(28)
    assert found.train.images[:, 0, 0, 0].tolist() == [5] * 5 + [3] * 3
    assert xrays.validation(found, 0.2, by_patient=True, seed=0).tolist() == [5, 6, 7]
    assert found.title == (
        "PneumoniaMNIST at 28 px (merged from partial copies, not the official file)"
    )
    # The merged file is at 28 pixels: under the name of another size it is another file.
    path.rename(path.with_name("pneumoniamnist_64.npz"))
    with pytest.raises(UserError, match=r"pneumoniamnist_64.npz is not the official file"):
        pneumonia_mnist.load(64)
    # Without a file a reader gets the official one, and runs are named after it.
    assert pneumonia_mnist.md5(28) == medmnist.INFO["pneumoniamnist"]["MD5"]


@pytest.mark.parametrize(
    ("file", "patient", "kind"),
    [
        ("train/PNEUMONIA/person17_bacteria_56.jpeg", "person17", 1),
        ("test/PNEUMONIA/person1_virus_6.jpeg", "person1", 2),
        ("train/PNEUMONIA/person441_virus_900_1.jpeg", "person441", 2),
        ("train/NORMAL/IM-0543-0001-0002.jpeg", "IM-0543", 0),
        ("train/NORMAL/NORMAL2-IM-0381-0001.jpeg", "NORMAL2-IM-0381", 0),
        ("odd.png", "odd.png", 0),
    ],
)
def test_names_tell_patient_and_kind(file, patient, kind):
    assert (xrays.patient(file), xrays.kind(file)) == (patient, kind)


def test_validation_by_patient_shares_no_patient_and_is_a_fifth_of_each_class(images):
    held = xrays.validation(images, 0.2, by_patient=True, seed=3)
    names = [xrays.patient(file) for file in images.train_files]
    inside = {names[i] for i in held.tolist()}
    outside_ = {name for i, name in enumerate(names) if i not in set(held.tolist())}
    assert not inside & outside_
    assert images.train.labels[held].bincount().tolist() == [8, 16]
    other = xrays.validation(images, 0.2, by_patient=True, seed=4)
    assert held.tolist() != other.tolist()
    by_image = xrays.validation(images, 0.2, by_patient=False, seed=3)
    assert images.train.labels[by_image].bincount().tolist() == [8, 16]
    assert {names[i] for i in by_image.tolist()} & {
        name for i, name in enumerate(names) if i not in set(by_image.tolist())
    }


def test_the_overview_counts_images_patients_and_kinds(images):
    found = xrays.overview(images).set_index(["Part", "Class"])
    assert found["Images"].tolist() == [40, 80, 14, 26]
    assert found["Share, %"].tolist() == pytest.approx([100 / 3, 200 / 3, 35, 65])
    assert found["Patients"].tolist() == ["20", "40", "7", "14"]
    assert found.loc[("training", "PNEUMONIA"), "Bacterial / viral"] == "40 / 40"
    nameless = replace(images, train_files=(), test_files=())
    assert set(xrays.overview(nameless)["Patients"]) == {"unknown"}
    names, kind = xrays.kinds(images)
    assert names == ("normal", "bacterial", "viral") and kind.bincount().tolist() == [14, 13, 13]
    assert xrays.kinds(nameless)[0] == ("normal", "pneumonia")


def test_patients_in_both_parts_by_number_and_kind(images):
    shared = replace(
        images,
        train_files=("person1_virus_1.jpeg", "person2_virus_2.jpeg", "IM-0003-0001.jpeg"),
        test_files=("person1_virus_9.jpeg", "person2_bacteria_8.jpeg", "IM-0004-0001.jpeg"),
    )
    assert xrays.shared_patients(shared) == (1, 2)


def test_three_classes_are_bacterial_and_viral_apart(images):
    three = xrays.three_classes(images)
    assert three.train.labels[:4].tolist() == [0, 1, 2, 0]
    assert three.classes == ("normal", "bacterial", "viral")


def test_duplicates_within_and_across_parts(images):
    pixels, labels = images.train.images.clone(), images.train.labels
    pixels[3] = pixels[0]
    pixels[4] = pixels[2]
    test = images.test.images.clone()
    test[0] = pixels[5]
    test[1:3] = test[1]
    twins = replace(images, train=Split(pixels, labels), test=Split(test, images.test.labels))
    found = xrays.duplicates(twins)
    # Images 0 and 3 are both normal, 2 and 4 both pneumonias, test 1 and 2 as well; the test
    # image 0 is normal, its twin 5 a pneumonia.
    assert found == {"train": 2, "test": 1, "across": 1, "mixed": 1, "images": 8}


# Networks and views


def test_ten_convolutions_have_the_parameters_counted_by_hand():
    pairs = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 64), (64, 128)]
    pairs += [(128, 128)] * 3
    expected = sum(9 * a * b + b for a, b in pairs) + (6272 * 256 + 256) + (256 * 2 + 2)
    for size in (224, 64):
        network = TenConvolutions(2, size)
        assert sum(p.numel() for p in network.parameters()) == expected == 2_262_434
    assert TenConvolutions(2, 64)(torch.rand(2, 1, 64, 64)).shape == (2, 2)
    assert SmallXrayNet(3)(torch.rand(2, 1, 32, 32)).shape == (2, 3)


def test_random_crops_differ_by_image_and_repeat_with_their_seed(images):
    flat = torch.nn.Flatten()
    pixels = images.test.images[:1].expand(4, -1, -1, -1)
    first, again, other = (extract(flat, pixels, CPU, crop(32, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 4


def test_deformed_images_stay_in_range_and_are_never_mirrored():
    torch.manual_seed(0)
    left = torch.zeros(50, 1, 32, 32)
    left[..., :10] = 200
    views = deformed(left)
    assert views.min() >= 0 and views.max() <= 255
    assert (views[..., :8].mean(dim=(1, 2, 3)) > views[..., 24:].mean(dim=(1, 2, 3))).all()


# Runs


@pytest.mark.parametrize("name", TRAINED)
def test_every_model_lowers_its_training_loss(store, fabric, images, name):
    record = store.run(TRAINED[name], fabric)
    assert record.curves["train_loss"][-1] < record.curves["train_loss"][0]
    truth = images.test.labels.numpy()
    if TRAINED[name].classes == 2:
        assert record.predictions["test"].shape == (40,)
        predicted = ev.classes(record)
        assert record.metrics["accuracy"] == pytest.approx((predicted == truth).mean())
        normal = (predicted[truth == 0] == 0).mean()
        assert record.metrics["recall_normal"] == pytest.approx(normal)
    assert 0 <= record.metrics["valid_accuracy"] <= 1


def test_a_head_trains_the_weights_and_biases_of_one_layer(store, fabric):
    assert store.run(HEAD, fabric).parameters["trained"] == 512 * 2 + 2
    assert runs.backbone(Pretrained("resnet50", "random")).features * 2 + 2 == 4098


def test_the_printed_number_of_trained_parameters_is_that_of_the_first_five_tensors():
    # conv1 (7 x 7 x 3 x 64), bn1 (weight and bias of 64), layer1.0.conv1 (64 x 64), its weight.
    assert 9408 + 64 + 64 + 4096 + 64 == 13_696
    sizes = tensor_sizes("resnet50")
    assert sum(sizes[:5]) == 13_696
    # All layers but the last, and a head of 2,048 features and two outputs.
    assert sum(sizes[:-2]) + 2 * 2048 + 2 == 23_512_130


class Poison:
    """A test split that nothing may look at."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test set was touched: {name}")


def test_validation_never_touches_the_test_set(store, fabric, images, monkeypatch):
    forget()
    monkeypatch.setattr(data, "load", lambda name: replace(images, test=Poison()))
    for run in (HEAD, SMALL):
        held = replace(run, seed=5, scored_on="validation")
        assert 0 <= store.run(held, fabric).metrics["accuracy"] <= 1
        with pytest.raises(AssertionError, match="test set was touched"):
            store.run(replace(held, scored_on="test"), fabric)
    monkeypatch.undo()
    forget()


def test_labels_are_drawn_evenly_and_never_from_validation():
    own = parts("generated_xrays", 2, True, 20, 0, CPU)
    assert own.trained.bincount().tolist() == [10, 10]
    assert not set(own.kept.tolist()) & set(own.held.tolist())


def test_weights_and_sampling_even_the_classes_out(images):
    own = parts("generated_xrays", 2, True, 0, 0, CPU)
    torch.manual_seed(0)
    positions, _ = replace(HEAD, balance="sampling")._objective(own)
    drawn = own.labels[positions(torch.zeros(4000, dtype=torch.long))].float().mean()
    assert drawn.item() == pytest.approx(0.5, abs=0.03)
    _, loss = replace(HEAD, balance="weights")._objective(own)
    at = own.kept[:6]
    logits = torch.randn(6, 2)
    each = F.cross_entropy(logits, own.labels[at], reduction="none")
    # 32 normal and 64 pneumonia are kept: weights 96 / 64 and 96 / 128.
    weight = torch.tensor([1.5, 0.75])[own.labels[at]]
    assert loss(logits, at).item() == pytest.approx(((each * weight).sum() / weight.sum()).item())


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_as_good_as_any(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40)
    scores = np.round(labels + rng.normal(size=40), 1)

    def balanced(cut):
        called = scores > cut
        return (called[labels == 1].mean() + (~called[labels == 0]).mean()) / 2

    every = [balanced(cut) for cut in np.concatenate([[-9], scores])]
    assert balanced(best_threshold(scores, labels)) == pytest.approx(max(every))


def test_a_threshold_moved_on_validation_mends_a_bias():
    labels = torch.tensor([0, 0, 1, 1])
    biased = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0], [0.0, 5.0]])
    moved = moved_threshold(biased, labels, biased, labels)
    assert moved["threshold"] == pytest.approx(3)
    assert moved["moved_mean_class_accuracy"] == 1
    assert moved["moved_recall_normal"] == 1


def test_the_threshold_follows_from_validation_images_alone(store, fabric, images, monkeypatch):
    labels = torch.tensor([0, 0, 1, 1])
    valid = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0], [0.0, 5.0]])
    # On these the best threshold would be 6.
    test = torch.tensor([[0.0, 2.5], [0.0, 5.0], [0.0, 7.0], [0.0, 8.0]])
    moved = moved_threshold(valid, labels, test, labels)
    assert moved["threshold"] == pytest.approx(3)
    assert (moved["moved_accuracy"], moved["moved_recall_normal"]) == (0.75, 0.5)
    assert (moved["moved_mean_class_accuracy"], moved["moved_recall_pneumonia"]) == (0.75, 1)

    forget()
    run = replace(HEAD, seed=11)
    before = store.run(run, fabric).metrics
    store.path(run).unlink()
    forget()
    upside_down = replace(images, test=Split(images.test.images.flip(2), 1 - images.test.labels))
    monkeypatch.setattr(data, "load", lambda name: upside_down)
    after = store.run(run, fabric).metrics
    assert after["threshold"] == before["threshold"]
    assert after["moved_accuracy"] != before["moved_accuracy"]
    monkeypatch.undo()
    forget()


def test_a_shift_between_the_parts_is_seen_and_none_where_there_is_none(
    store, fabric, images, monkeypatch
):
    forget()
    brighter = images.test.images // 2 + 60
    shifted = replace(images, test=Split(brighter, images.test.labels))
    monkeypatch.setattr(data, "load", lambda name: shifted)
    run = DomainShift("generated_xrays", 0, 1, False, SOURCE, 32)
    assert store.run(run, fabric).metrics["auc"] > 0.9
    control = store.run(replace(run, control=True), fabric).metrics["auc"]
    assert 0.2 < control < 0.8
    monkeypatch.undo()
    forget()


def test_grad_cam_of_a_linear_head_on_averaged_maps_is_its_closed_form(store, fabric, images):
    record = store.run(Heatmaps("generated_xrays", replace(HEAD, size=64), each=4), fabric)
    state = store.weights(replace(HEAD, size=64), fabric)
    network = Scored(backbone(SOURCE), state).eval()
    kept = record.predictions
    pixels = images.test.images[torch.tensor(kept["position"].astype(int))]
    pixels = runs.whole(pixels, 64).transform(pixels)
    body = network.body.body
    maps = torch.nn.Sequential(*list(body.children())[:-2])(network.body.normalised(pixels))
    # The gradient of a class score in every position is its weight over the number of positions.
    weight = (state["weight"] / state["deviation"])[kept["predicted"].astype(int)]
    expected = (maps * weight[:, :, None, None]).sum(dim=1).relu()
    expected = 255 * expected / expected.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    difference = (torch.tensor(kept["map"].astype(float)) - expected).abs()
    assert difference.max().item() <= 1.5


SMALLEST = (  # Of every family that torchvision has; 224 pixels where it takes no others.
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
    *("googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *("regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0"),
    *("squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "inception_v3", "maxvit_t"),
)


@pytest.mark.parametrize("name", SMALLEST)
def test_grad_cam_of_every_family_equals_what_autograd_gives(name, store, fabric, monkeypatch):
    size = {"inception_v3": 96, "maxvit_t": 224}.get(name, 64)
    body = backbone(Pretrained(name, "random")).eval()
    torch.manual_seed(0)
    state = {"weight": torch.randn(2, body.features), "bias": torch.zeros(2)}
    state |= {"mean": torch.zeros(body.features), "deviation": torch.ones(body.features)}
    network = Scored(body, state).eval()
    layer, image = last_maps(name, size), 255 * torch.rand(1, 1, size, size)
    found = class_maps(network, layer, image, 1)

    # By hand: the maps are cut out of the pass and fed back in as a leaf.
    kept = {}

    def cut(module, inputs, output):
        kept["maps"] = output.detach().clone().requires_grad_()
        return kept["maps"].clone()

    handle = body.body.get_submodule(layer).register_forward_hook(cut)
    network(image)[0, 1].backward()
    handle.remove()
    weight = kept["maps"].grad.mean(dim=(2, 3), keepdim=True)
    expected = (weight * kept["maps"].detach()).sum(dim=1, keepdim=True).relu()
    assert found.shape == expected.shape and found.shape[2] == found.shape[3] > 1
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max().item() + 1e-12)
    over = F.interpolate(found, size=(size, size), mode="bilinear")
    assert over.shape == image.shape


def test_share_outside_the_middle_by_hand():
    maps = torch.zeros(2, 1, 7, 7)
    maps[0, 0, 0, 3] = 1
    maps[1, 0, 3, 3] = 3
    maps[1, 0, 6, 6] = 1
    assert outside(maps) == pytest.approx((1 + 0.25) / 2)
    assert outside(torch.ones(1, 1, 7, 7)) == pytest.approx(24 / 49)
    assert math.isnan(outside(torch.zeros(1, 1, 7, 7)))


@pytest.mark.parametrize(("side", "share"), [(7, 24 / 49), (13, 1 - 81 / 169), (2, 1)])
def test_the_rim_is_a_seventh_wide(side, share):
    assert xray_questions.rim(side, side).float().mean().item() == pytest.approx(share)


def test_an_image_is_found_mirrored_and_cut():
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(5, 1, 14, 14, generator=generator)
    files = (255 * F.interpolate(rough, size=(112, 112), mode="bicubic").clamp(0, 1)).to(
        torch.uint8
    )
    at = 112 - round(112 * 0.74)
    cut = files[:, :, :, at // 2 : at // 2 + round(112 * 0.74)].float().flip(3)
    small = F.interpolate(cut, size=(28, 28), mode="area").to(torch.uint8)
    found = correlations(small, files)
    assert (found.argmax(dim=1) == torch.arange(5)).all()
    assert found.diag().min() > 0.98


# The chapter


def test_the_plan_repeats_the_report_and_has_our_protocol():
    planned = chapter.plan(profiles.settings(chapter.NAME))
    assert {run.protocol for run in planned if hasattr(run, "protocol")} == {"report", "tuned"}
    every_layer = [run for run in planned if isinstance(run, ReportFineTuning)]
    assert {run.moving for run in every_layer} == {False, True}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dataset": "mnist"}, "dataset is 'mnist'"),
        ({"architecture": "resnet51"}, "resnet51"),
        ({"weights": "resnet18_imagenet_pq.pth.xz"}, "is for resnet18"),
        ({"fine_tuned": "vgg16"}, "fine_tuned is 'vgg16'; allowed: a ResNet"),
        ({"label_numbers": [21]}, "even numbers"),
        ({"label_numbers": 20}, "a list of different values"),
        ({"dataset": "pneumonia", "unmatched": False}, "three_class_seeds"),
        ({"dataset": "generated_xrays"}, "unmatched goes with"),
        ({"cnn_size": 16}, "cnn_size is 16"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_impossible_settings_are_refused(changed, told):
    with pytest.raises(UserError, match=told):
        profiles.settings(chapter.NAME, **changed)


def rows(**metrics):
    """A run per seed with these metrics, all of which have been made."""
    count = len(next(iter(metrics.values())))
    usual = {"draw": range(count), "record": "made", "luck": None, "overlap": None}
    return pd.DataFrame(usual | metrics, index=range(count))


def test_causes_by_hand():
    plain = rows(
        recall_normal=[0.5, 0.6, 0.5],
        moved_recall_normal=[0.7, 0.5, 0.5],
        valid_recall_normal=[0.9, 0.9, 0.8],
    )
    # The last seed fails to learn without weights, and counts nowhere.
    weighted = rows(
        recall_normal=[0.6, 0.6, 0.7, 0.6],
        moved_recall_normal=[0.6, 0.6, 0.7, 0.6],
        valid_recall_normal=[0.9, 0.8, 0.8, 0.9],
    )
    found = causes(plain, weighted, "normal")
    assert found["weights"].mean == pytest.approx((0.1 + 0 + 0.2) / 3)
    assert found["threshold"].mean == pytest.approx((0.2 - 0.1 + 0) / 3)
    assert found["shift"].mean == pytest.approx((0.3 + 0.2 + 0.1) / 3)
    assert found["surplus"].mean == pytest.approx(0.1 - 0.2)
    assert {each.n for each in found.values()} == {3}
    alone = causes(plain, weighted.iloc[:0], "normal")
    assert alone["weights"].n == alone["surplus"].n == 0
    assert alone["threshold"].n == 3


def test_the_claims_follow_from_the_records_and_need_no_images(monkeypatch):
    def refused(name):
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(data, "load", refused)
    with data.as_in_the_book():
        found = ledger.entries(chapter.NAME, vars(profiles.settings(chapter.NAME)))
    words = {row["claim"].id: row["verdict"].word for row in found}
    assert words == {
        **dict.fromkeys(["C1", "C3", "C8", "C14"], "not identifiable"),
        **dict.fromkeys(["C4", "C7", "C9", "C11", "C12"], "not tested"),
        **dict.fromkeys(["C2", "C10"], "cannot tell"),
        "C5": "contradicted",
        # Of the reading that trains all layers there are three runs, too few for both.
        **dict.fromkeys(["C6", "C13"], "undecided"),
    }
    # Of 24 networks of ten convolutions six learn; with class weights, of three none.
    n = {row["claim"].id: row.get("n") for row in found}
    assert (n["C2"], n["C6"], n["C10"]) == (6, 3, 6)
