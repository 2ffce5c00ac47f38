import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from medmnist import INFO

from fewlabels import data
from fewlabels.chapters import profiles
from fewlabels.chapters.ssl_medmnist import plan
from fewlabels.data import bccd, cells, duplicates, medmnist
from fewlabels.data.medmnist import MedMNIST, Rebuild
from fewlabels.errors import UserError

COUNTS = {"train": 6, "val": 3, "test": 4}


def write(path, grey=False, size=28, **more):
    generator = np.random.default_rng(0)
    arrays = dict(more)
    for part, count in COUNTS.items():
        shape = (count, size, size) if grey else (count, size, size, 3)
        arrays[f"{part}_images"] = generator.integers(256, size=shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = generator.integers(2, size=(count, 1)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return arrays, hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    return tmp_path / "medmnist"


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))


def official(monkeypatch, flag, digest, key="MD5"):
    monkeypatch.setitem(INFO, flag, INFO[flag] | {key: digest})


def test_an_official_file_is_read_as_tensors(folder, monkeypatch):
    arrays, digest = write(folder / "pathmnist.npz")
    official(monkeypatch, "pathmnist", digest)
    images = MedMNIST("pathmnist").load()
    assert images.md5 == MedMNIST("pathmnist").md5() == digest
    assert images.title == "PathMNIST at 28 px"
    assert [len(part.labels) for part in (images.train, images.valid, images.test)] == [6, 3, 4]
    for part, name in ((images.train, "train"), (images.valid, "val"), (images.test, "test")):
        assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), arrays[f"{name}_images"])
        assert np.array_equal(part.labels.numpy(), arrays[f"{name}_labels"][:, 0])


def test_a_grey_set_has_one_channel_and_other_sizes_have_other_files(folder, monkeypatch):
    _, digest = write(folder / "octmnist_64.npz", grey=True, size=64)
    official(monkeypatch, "octmnist", digest, "MD5_64")
    images = data.DATASETS["octmnist-64"].load()
    assert images.train.images.shape == (6, 1, 64, 64)
    assert images.title == "OCTMNIST at 64 px" and images.name == "octmnist-64"


def test_a_rebuild_is_named_in_the_title(folder, monkeypatch):
    _, digest = write(folder / "bloodmnist.npz")
    monkeypatch.setitem(medmnist.REBUILDS, "bloodmnist", Rebuild(digest))
    assert "a rebuild, not the official file" in MedMNIST("bloodmnist").load().title


@pytest.mark.parametrize("other", [("dermamnist", 28), ("pathmnist", 28), ("bloodmnist", 64)])
def test_a_rebuild_of_another_set_or_size_is_refused(folder, monkeypatch, other):
    own = MedMNIST(*other)
    _, digest = write(own.path)
    monkeypatch.setitem(medmnist.REBUILDS, "bloodmnist", Rebuild(digest))
    with pytest.raises(UserError, match=f"{own.path.name} is not the official file.*{digest}"):
        own.load()


def test_another_file_is_refused_with_both_checksums(folder):
    _, digest = write(folder / "bloodmnist.npz")
    with pytest.raises(UserError) as caught:
        MedMNIST("bloodmnist").load()
    assert digest in str(caught.value) and INFO["bloodmnist"]["MD5"] in str(caught.value)


def test_a_missing_file_is_named_with_the_remedy(folder):
    with pytest.raises(UserError, match=r"pathmnist\.npz is missing.*unset FEWLABELS_DATA"):
        MedMNIST("pathmnist").load()


def test_a_failed_download_says_where_to_put_the_file(nothing, monkeypatch):
    def fail(**given):
        assert given["size"] == 64 and given["download"]
        raise RuntimeError("no network")

    monkeypatch.setattr(medmnist.medmnist, "PathMNIST", fail)
    with pytest.raises(UserError, match=r"pathmnist_64\.npz .*no network.*FEWLABELS_DATA"):
        MedMNIST("pathmnist", 64).load()


@pytest.mark.parametrize("ask", [data.load, data.md5, data.train_size])
def test_several_labels_per_image_are_refused_with_what_is_possible(ask):
    with pytest.raises(UserError, match=r"several labels per image.*bloodmnist"):
        ask("chestmnist")


def test_runs_are_listed_without_files_by_the_checksum_of_the_books_records(nothing):
    assert MedMNIST("bloodmnist").md5() == medmnist.REBUILDS["bloodmnist"].md5
    assert MedMNIST("bloodmnist", 64).md5() == INFO["bloodmnist"]["MD5_64"]
    assert MedMNIST("pathmnist").md5() == INFO["pathmnist"]["MD5"]
    assert MedMNIST("bloodmnist").TRAIN == 11_959


def test_lesions_come_from_the_sources_and_the_table(folder):
    assert MedMNIST("dermamnist").lesions() is None
    sources = {
        f"{part}_source": np.array([f"ISIC_{part}{i}" for i in range(count)])
        for part, count in COUNTS.items()
    }
    write(folder / "dermamnist.npz", **sources)
    assert MedMNIST("dermamnist").lesions() is None
    with (folder / medmnist.LESIONS).open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["lesion_id", "image_id", "dx"])
        for ids in sources.values():
            for i, name in enumerate(ids):
                table.writerow([f"HAM_{i}", name, "nv"])
    known = MedMNIST("dermamnist").lesions()
    assert {part: list(ids) for part, ids in known.items()} == {
        "train": [f"HAM_{i}" for i in range(6)],
        "valid": [f"HAM_{i}" for i in range(3)],
        "test": [f"HAM_{i}" for i in range(4)],
    }
    # The official file does not name its originals.
    write(folder / "dermamnist.npz")
    assert MedMNIST("dermamnist").lesions() is None
    assert MedMNIST("bloodmnist").lesions() is None


def test_extra_cells_are_refused_where_missing_or_other(folder):
    with pytest.raises(UserError, match=r"bccd_cells\.npz is missing.*side_seeds=0"):
        bccd.images()
    own = profiles.settings("ssl-medmnist"), profiles.settings("ssl-medmnist", side_seeds=0)
    for settings, wanted in zip(own, (True, False), strict=True):
        with data.as_in_the_book():
            assert any("bccd_cells" in run.checksums() for run in plan(settings)) == wanted
    folder.mkdir()
    np.savez(folder / "bccd_cells.npz", images=np.zeros((2, 28, 28, 3), np.uint8))
    with pytest.raises(UserError, match="another file"):
        bccd.images()


def test_generated_cells_have_all_that_the_medical_sets_have():
    images = data.load("cells")
    assert images.train.images.shape == (cells.TRAIN, 3, 28, 28)
    assert len(images.valid.labels) == cells.VALID and len(images.test.labels) == cells.TEST
    assert images.train.labels.bincount().tolist() == [80, 40, 24, 16]
    assert data.md5("cells") == cells.md5()
    found = duplicates.exact({"train": images.train.images, "valid": images.valid.images})
    assert len(found) == 1
    shared = np.isin(data.lesions("cells")["test"], data.lesions("cells")["train"])
    assert shared.sum() == 20
    assert data.lesions("digits") is None


def test_channel_statistics_by_hand():
    images = torch.tensor([[[[0, 255]], [[51, 51]]], [[[0, 255]], [[102, 102]]]]).to(torch.uint8)
    mean, deviation = data.channel_statistics(images)
    assert mean.tolist() == pytest.approx([0.5, 0.3])
    assert deviation.tolist() == pytest.approx([0.5, 0.1])


def test_fractions_are_stratified_nested_and_never_empty():
    labels = torch.tensor([0] * 40 + [1] * 20 + [2])
    labels = labels[torch.randperm(61, generator=torch.Generator().manual_seed(0))]
    drawn = {f: data.draw_fraction(labels, f, seed=3) for f in (0.01, 0.25, 0.5, 1.0)}
    assert labels[drawn[0.25]].bincount().tolist() == [10, 5, 1]
    assert labels[drawn[0.01]].bincount().tolist() == [1, 1, 1]
    assert drawn[1.0].tolist() == list(range(61))
    assert set(drawn[0.01].tolist()) < set(drawn[0.25].tolist()) < set(drawn[0.5].tolist())
    assert drawn[0.25].tolist() != data.draw_fraction(labels, 0.25, seed=4).tolist()
    for fraction in (0, 1.5, -1):
        with pytest.raises(UserError, match="fraction"):
            data.draw_fraction(labels, fraction, seed=0)


def test_duplicates_are_found_within_and_across_splits():
    generator = torch.Generator().manual_seed(0)
    train, test = (
        torch.randint(256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8) for n in (9, 5)
    )
    train[7] = train[2]
    test[4] = train[2]
    test[1] = (train[5].int() + 2).clamp(max=255).to(torch.uint8)
    parts = {"train": train, "test": test}
    exact = duplicates.exact(parts)
    assert {tuple(row) for row in exact[duplicates.COLUMNS[:4]].itertuples(index=False)} == {
        ("train", 2, "train", 7),
        ("train", 2, "test", 4),
        ("train", 7, "test", 4),
    }
    near = duplicates.near(parts, limit=3.0, chunk=4)
    assert len(near) == 4 and (near["distance"] == 0).sum() == 3
    (other,) = near[near["distance"] > 0].itertuples(index=False)
    assert (other.split, other[1], other.other_split, other.other_index) == ("train", 5, "test", 1)
    assert 1.9 < other.distance <= 2
    assert len(duplicates.near(parts, limit=1.0)) == 3


def test_records_of_the_book_are_listed_whatever_file_is_here(folder, monkeypatch):
    _, digest = write(folder / "bloodmnist.npz")
    data._md5.cache_clear()
    try:
        assert data.md5("bloodmnist") == digest
        with data.as_in_the_book():
            assert data.md5("bloodmnist") == medmnist.REBUILDS["bloodmnist"].md5
            assert data.md5("cells") == cells.md5()
        assert data.md5("bloodmnist") == digest
    finally:
        data._md5.cache_clear()


def test_a_download_that_is_cut_off_leaves_no_file(nothing, monkeypatch):
    def cut_off(root, **given):
        (Path(root) / "bloodmnist.npz").write_bytes(b"half")
        raise OSError("cut off")

    monkeypatch.setattr(medmnist.medmnist, "BloodMNIST", cut_off)
    own = MedMNIST("bloodmnist")
    with pytest.raises(UserError, match="cut off"):
        own.load()
    assert list(own.path.parent.iterdir()) == []


def test_a_downloaded_file_is_known_by_its_own_checksum(nothing, monkeypatch):
    class Downloaded:
        there = False

        def md5(self):
            return "its own" if self.there else "the rebuild's"

        def load(self):
            self.there = True
            return "images"

    monkeypatch.setitem(data.DATASETS, "downloaded", Downloaded())
    assert data.md5("downloaded") == "the rebuild's"
    data.load("downloaded")
    assert data.md5("downloaded") == "its own"
    data._load.cache_clear()
    data._md5.cache_clear()
