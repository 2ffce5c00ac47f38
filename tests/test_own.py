"""A reader's own images, from files and folders, and what is said of those that do not fit."""

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabels import data
from fewlabels.chapters import profiles
from fewlabels.data import own
from fewlabels.errors import UserError


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))


def picture(path, grey: int, size=(40, 30), mode="RGB"):
    """An image of one grey level, its left upper pixel apart so that no two files are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, grey)
    image.putpixel((0, 0), len(list(path.parent.iterdir())))
    image.convert(mode).save(path)


def folder(place, counts: dict[str, int], mode="RGB"):
    for k, (name, count) in enumerate(counts.items()):
        for i in range(count):
            picture(place / name / f"{i}.png", 60 * k + 30, mode=mode)
    return place


def arrays(n: int, classes: int = 2, prefix: str = "train", shape=(28, 28, 3)) -> dict:
    labels = np.arange(n, dtype=np.uint8) % classes
    images = np.zeros((n, *shape), np.uint8) + (labels * 50).reshape(n, *[1] * len(shape))
    return {f"{prefix}_images": images.astype(np.uint8), f"{prefix}_labels": labels[:, None]}


def test_a_folder_is_split_by_class_and_says_so(tmp_path):
    found = data.load(str(folder(tmp_path / "mine", {"b": 20, "a": 10})))
    assert found.classes == ("a", "b")
    # 20% and 10% of every class, by hand: 2 and 4 tested, 1 and 2 validate.
    counts = {part: getattr(found, part).labels.bincount().tolist() for part in ("test", "valid")}
    assert counts == {"test": [2, 4], "valid": [1, 2]}
    assert found.train.labels.bincount().tolist() == [7, 14]
    assert "test and valid split drawn here" in found.title
    assert any("20% and 10% of every class, seed 0" in note for note in found.notes)
    # Class b has the darker grey of the two (30 and 90), and images are grey in one channel.
    for part in (found.train, found.valid, found.test):
        assert part.images.shape[1:] == (1, 28, 28)
        greys = part.images[:, 0, 20, 20]
        assert (greys == torch.where(part.labels == 1, 30, 90)).all()


def test_no_image_is_in_two_splits_and_none_is_lost(tmp_path):
    content = arrays(50)
    content["train_images"][:, 0, 0, 0] = np.arange(50)
    np.savez(tmp_path / "mine.npz", **content)
    found = data.load(str(tmp_path / "mine.npz"))
    marks = torch.cat([part.images[:, 0, 0, 0] for part in (found.train, found.valid, found.test)])
    assert sorted(marks.tolist()) == list(range(50))


def test_the_first_training_images_of_a_folder_are_of_every_class(tmp_path):
    found = data.load(str(folder(tmp_path / "mine", {"a": 30, "b": 30})))
    assert set(found.train.labels[:12].tolist()) == {0, 1}


def test_given_splits_stay_as_they_are(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        folder(tmp_path / "mine" / part, {"a": count, "b": count})
    found = data.load(f"{tmp_path}/mine@32")
    sizes = [len(part.labels) for part in (found.train, found.valid, found.test)]
    assert sizes == [8, 4, 6]
    assert found.train.images.shape[-1] == 32
    assert "drawn" not in found.title


def test_only_the_missing_split_is_drawn(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(20), **arrays(6, prefix="test"))
    found = data.load(str(tmp_path / "mine.npz"))
    assert [len(part.labels) for part in (found.train, found.valid, found.test)] == [18, 2, 6]
    assert "valid split drawn here" in found.title


def test_the_checksum_is_that_of_the_content(tmp_path):
    place = folder(tmp_path / "mine", {"a": 5, "b": 5})
    before = data.md5(str(place))
    assert len(before) == 64 and data.md5(f"{place}@32") == before
    data._md5.cache_clear()
    picture(place / "a" / "0.png", 200)
    assert own.checksum(str(place)) != before
    place.rename(tmp_path / "moved")
    folder(tmp_path / "again", {"a": 5, "b": 5})
    assert own.checksum(str(tmp_path / "again")) == before


def test_colour_makes_three_channels_for_all(tmp_path):
    place = folder(tmp_path / "mine", {"a": 5, "b": 5}, mode="L")
    Image.new("RGB", (30, 30), (200, 10, 10)).save(place / "a" / "red.png")
    assert data.load(str(place)).train.images.shape[1] == 3


def test_sixteen_bits_are_read_by_their_upper_eight(tmp_path):
    place = folder(tmp_path / "mine", {"a": 5, "b": 5})
    for path in (place / "a").iterdir():
        Image.fromarray(np.full((20, 20), 200 * 256 + 7, np.uint16)).save(path)
    found = data.load(str(place))
    assert (found.train.images[found.train.labels == 0] == 200).all()


def refusal(name) -> str:
    with pytest.raises(UserError) as refused:
        data.load(str(name))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_every_unreadable_file_is_named(tmp_path):
    place = folder(tmp_path / "mine", {"a": 5, "b": 5})
    (place / "a" / "0.png").write_text("no image")
    (place / "b" / "3.png").write_bytes((place / "b" / "2.png").read_bytes()[:60])
    said = refusal(place)
    assert "a/0.png" in said and "b/3.png" in said


def test_other_files_are_refused_and_hidden_ones_passed_over(tmp_path):
    place = folder(tmp_path / "mine", {"a": 5, "b": 5})
    (place / "a" / ".DS_Store").write_text("")
    assert len(data.load(str(place)).train.labels)
    (place / "a" / "notes.txt").write_text("mine")
    data._load.cache_clear()
    assert "notes.txt is no image file" in refusal(place)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"a": 5, "b": 1}, "class 'b' has 1 training images"),
        ({"a": 5, "b": 0}, "two or more are needed"),
        ({"a": 5}, "two or more are needed"),
    ],
)
def test_classes_with_too_few_images(tmp_path, counts, words):
    assert words in refusal(folder(tmp_path / "mine", counts))


def test_an_empty_class_folder(tmp_path):
    (folder(tmp_path / "mine", {"a": 5, "b": 5}) / "empty").mkdir()
    assert "no train image of class 'empty'" in refusal(tmp_path / "mine")


def test_a_class_that_a_split_lacks(tmp_path):
    folder(tmp_path / "mine" / "train", {"a": 5, "b": 5, "c": 5})
    folder(tmp_path / "mine" / "test", {"a": 5, "b": 5})
    assert "no test image of class 'c'" in refusal(tmp_path / "mine")


def test_two_folders_of_one_split(tmp_path):
    for split in ("train", "val", "valid"):
        folder(tmp_path / "mine" / split, {"a": 5, "b": 5})
    assert "has the folders train, val, valid, two of one split" in refusal(tmp_path / "mine")


def test_a_class_folder_beside_the_splits(tmp_path):
    folder(tmp_path / "mine" / "train", {"a": 5, "b": 5})
    folder(tmp_path / "mine", {"cats": 3})
    assert "cats" in refusal(tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": np.zeros((20, 28, 28), np.uint16)}, "divide by 256"),
        ({"train_images": np.zeros((20, 28, 28), np.float32)}, "multiply values in 0..1 by 255"),
        ({"train_images": np.zeros((20, 3, 28, 28), np.uint8)}, "[N, H, W, 3]"),
        ({"train_images": np.zeros((20, 8, 8), np.uint8)}, "16 pixels"),
        ({"train_labels": np.zeros(19, int)}, "20 images and 19 labels"),
        ({"train_labels": np.zeros((20, 4), int)}, "one label for each image"),
        ({"train_labels": np.arange(20) % 2 / 2}, "0, 1, 2"),
        ({"train_labels": np.arange(20) % 2 - 1}, "0, 1, 2"),
        ({"train_labels": 2 * (np.arange(20) % 2)}, "without gaps"),
        ({"train_labels": np.zeros(20, int)}, "one class"),
        ({"val_images": np.zeros((4, 28, 28), np.uint8)}, "no val_labels"),
        ({"val_labels": np.arange(4) % 2}, "holds val_labels, of no use there"),
        ({"dev_images": np.zeros((4, 28, 28), np.uint8)}, "holds dev_images, of no use there"),
        (arrays(4, prefix="val") | arrays(4, prefix="valid"), "holds val_images, val_labels, of"),
        ({"train_labels": np.arange(20) + 237}, "0, 1, 2 and so on, up to 255"),
        ({"train_labels": (np.arange(20) % 2).astype(object)}, "no .npz file of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, words):
    content = arrays(20) | changes
    np.savez(tmp_path / "mine.npz", **content)
    assert words in refusal(tmp_path / "mine.npz")


def test_a_file_of_another_layout(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.zeros(3), y=np.zeros(3))
    assert "holds x, y: MedMNIST's layout has train_images" in refusal(tmp_path / "mine.npz")
    assert "is not there" in refusal(tmp_path / "nowhere.npz")
    assert "the path of your own images" in refusal("bloodmnits")


@pytest.mark.parametrize("how", ["text", "npy", "cut", "flipped", "packed otherwise", "header"])
def test_a_damaged_file(tmp_path, how):
    file = tmp_path / "mine.npz"
    np.savez_compressed(file, **arrays(20))
    content = bytearray(file.read_bytes())
    if how == "text":
        content = b"PK no"
    elif how == "npy":
        with file.open("wb") as stream:
            np.save(stream, np.zeros(3))
        content = file.read_bytes()
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[60:90] = bytes(30)
    elif how == "packed otherwise":
        for start in (8, content.index(b"PK\x01\x02") + 10):
            content[start] = 99
    else:
        np.savez(file, **arrays(20))
        content = file.read_bytes().replace(b"'descr': '|u1'", b"'descr': '|u1(")
    file.write_bytes(content)
    assert "is no .npz file of plain arrays, or a damaged one" in refusal(file)


def test_validation_images_have_either_name(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(20), **arrays(6, prefix="valid"))
    found = data.load(str(tmp_path / "mine.npz"))
    assert [len(part.labels) for part in (found.train, found.valid, found.test)] == [16, 6, 4]


def test_more_classes_than_a_prediction_can_name(tmp_path):
    place = folder(tmp_path / "mine", dict.fromkeys(map(str, range(257)), 1))
    assert "has 257 classes; allowed: 2 to 256" in refusal(place)


def test_a_folder_has_its_whole_name_and_a_file_its_stem(tmp_path, monkeypatch):
    place = folder(tmp_path / "v1.1@64", {"a": 5, "b": 5})
    np.savez(tmp_path / "v1.npz", **arrays(20))
    monkeypatch.chdir(place)
    # A path that is there is no size.
    assert {data.load(name).name for name in (".", str(place), "../v1.1@64")} == {"v1.1@64"}
    assert data.load(".").title.startswith("v1.1@64 (10 own images at 28 px")
    assert own.absolute("../v1.1@64") == str(place)
    assert data.load("../v1.npz").name == data.load("../v1.npz@32").name == "v1"
    assert "three@² is not there" in refusal("./three@²")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((20, 28, 28)), np.arange(20) % 2, "images is float64; allowed: uint8"),
        (np.zeros((20, 28), np.uint8), np.arange(20) % 2, "images is [20, 28]"),
        ([[1], [1, 2]], [0, 1], "images cannot be made one array"),
        (np.zeros((20, 28, 28), np.uint8), np.arange(20) / 2, "labels holds other numbers"),
        (np.zeros((20, 28, 28), np.uint8), np.zeros(20, int), "labels: all are of one class"),
        (np.zeros((20, 28, 28), np.uint8), 2 * (np.arange(20) % 2), "labels: no train image of"),
        (np.zeros((4, 28, 28), np.uint8), np.arange(4) % 2, "class '0' has 2 training images"),
        (np.zeros((20, 28, 28), np.uint8), [[0], [1, 1]], "labels cannot be made one array"),
    ],
)
def test_arrays_that_do_not_fit_are_not_kept(tmp_path, images, labels, words):
    with pytest.raises(UserError) as refused:
        own.kept(images, labels)
    assert str(refused.value).startswith(words)
    assert not [*tmp_path.rglob("*.npz")]


@pytest.mark.filterwarnings("error")
def test_a_tensor_is_kept_like_the_array_of_its_images():
    content = arrays(20)
    images, labels = content["train_images"], content["train_labels"][:, 0]
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    first = own.kept(images, labels)
    images.flags.writeable = False
    assert first == own.kept(tensor, torch.from_numpy(labels)) == own.kept(images, labels)
    assert len(data.load(first).train.labels) == 14


def test_an_image_that_is_no_square_is_squeezed(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(20, shape=(32, 48)))
    assert data.load(str(tmp_path / "mine.npz")).train.images.shape[1:] == (1, 32, 32)


def test_chapters_take_a_path(tmp_path, monkeypatch):
    folder(tmp_path / "mine", {"a": 5, "b": 5})
    monkeypatch.chdir(tmp_path)
    given = {"blood": "./mine", "derma": "./mine"}
    assert profiles.parameters("ssl-medmnist", "smoke", given)["blood"] == str(tmp_path / "mine")
    xrays = {"dataset": "./mine", "three_class_seeds": "0", "unmatched": "false"}
    assert profiles.parameters("chest-xray-transfer", "smoke", xrays)["dataset"].endswith("/mine")
    with pytest.raises(UserError, match="ten classes of grey images of 28 x 28 pixels"):
        profiles.parameters("rotnet-mnist", "smoke", {"dataset": "./mine"})
    np.savez(tmp_path / "ten.npz", **arrays(200, classes=10, shape=(28, 28)))
    assert profiles.parameters("rotnet-mnist", "smoke", {"dataset": "ten.npz"})


def test_xrays_of_ones_own_are_grey_with_validation_at_the_end(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(40))
    found = data.chest(str(tmp_path / "mine.npz"))
    assert found.train.images.shape[:2] == (32, 1) and found.valid.tolist() == [28, 29, 30, 31]
    np.savez(tmp_path / "three.npz", **arrays(30, classes=3))
    with pytest.raises(UserError, match="two, healthy and ill"):
        data.chest(str(tmp_path / "three.npz"))


def test_grey_images_are_coloured_for_methods_that_need_colour(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays(20, shape=(28, 28)))
    found = data.coloured(str(tmp_path / "mine.npz"))
    for part in (found.train, found.valid, found.test):
        assert part.images.shape[1] == 3 and (part.images == part.images[:, :1]).all()
