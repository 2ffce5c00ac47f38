import gzip
import hashlib
import struct
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.datasets import mnist as torchvision_mnist

from fewlabels import data
from fewlabels.data import digits, draw_fraction, draw_labels, hold_out, mnist
from fewlabels.errors import UserError

NAMES = [name for name, _ in mnist.MNIST.resources]
MNIST_MD5S = {
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
}


def idx(values: torch.Tensor) -> bytes:
    """The idx format: zeros, type (8 = bytes), dimensions, their sizes, the bytes."""
    head = struct.pack(f">HBB{values.dim()}I", 0, 8, values.dim(), *values.shape)
    return gzip.compress(head + values.numpy().tobytes())


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    sizes = {"train": 6, "t10k": 3}
    return {
        part: torch.randint(256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        for part, n in sizes.items()
    }


@pytest.fixture
def archives(images):
    """A tiny MNIST: name -> content."""
    contents = {}
    for part, pixels in images.items():
        contents[f"{part}-images-idx3-ubyte.gz"] = idx(pixels)
        contents[f"{part}-labels-idx1-ubyte.gz"] = idx(torch.arange(len(pixels)).to(torch.uint8))
    return contents


@pytest.fixture
def official(archives, monkeypatch):
    """The tiny archives count as the official ones."""
    sums = [(name, hashlib.md5(archives[name]).hexdigest()) for name in NAMES]
    monkeypatch.setattr(mnist.MNIST, "resources", sums)
    return dict(sums)


@pytest.fixture
def folder(tmp_path, archives, monkeypatch):
    """The tiny archives where FEWLABELS_DATA says."""
    raw = tmp_path / "own" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in archives.items():
        (raw / name).write_bytes(content)
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path / "own"))
    return raw


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data" / "MNIST" / "raw"


def state(folder: Path):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


def test_digits_are_uint8_tensors_in_the_shape_of_mnist():
    found = digits.load()
    assert found.train.images.shape == (1297, 1, 28, 28)
    assert found.test.images.shape == (500, 1, 28, 28)
    assert found.train.images.dtype == torch.uint8
    assert found.train.labels.dtype == torch.int64
    assert found.classes == tuple("0123456789")
    assert set(found.train.labels.tolist()) == set(range(10))
    assert data.train_size("digits") == len(found.train.labels)
    # A margin of four pixels, as MNIST's digits have.
    assert found.train.images[:, :, :4].max() == 0
    assert found.train.images[:, :, :, -4:].max() == 0
    assert found.train.images.max() == 255


def test_enlarged_digits_average_to_the_small_ones():
    from sklearn.datasets import load_digits

    small = torch.from_numpy(load_digits().images[:50]).float() / 16
    large = digits.load().train.images[:50, 0, 4:-4, 4:-4].float() / 255
    shrunk = torch.nn.functional.adaptive_avg_pool2d(large, 8)
    assert torch.corrcoef(torch.stack([small.flatten(), shrunk.flatten()]))[0, 1] > 0.97


def test_digits_checksum_is_the_known_one():
    assert digits.md5() == digits.load().md5 == "7696c07daa6d85010f8268703ab8b067"


def test_mnist_checksum_needs_no_files_and_covers_all_four_archives():
    lines = "".join(f"{md5}  {name}\n" for name, md5 in MNIST_MD5S.items())
    by_md5 = "".join(sorted(lines.splitlines(keepends=True), key=lambda line: line.split()[1]))
    assert mnist.md5() == hashlib.md5(by_md5.encode()).hexdigest()


def test_unknown_data_set_is_refused_with_the_list():
    for ask in (data.load, data.md5, data.train_size):
        with pytest.raises(UserError, match="mnist, fashion, digits"):
            ask("cifar")


def test_mnist_is_read_as_the_archives_have_it(official, folder, images):
    before = state(folder.parents[1])
    found = mnist.load()
    assert torch.equal(found.train.images.squeeze(1), images["train"])
    assert torch.equal(found.test.images.squeeze(1), images["t10k"])
    assert found.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.test.labels.tolist() == [0, 1, 2]
    assert found.train.labels.dtype == torch.int64
    assert state(folder.parents[1]) == before


@pytest.mark.parametrize("name", NAMES)
def test_missing_archive_is_named_with_its_checksum(official, folder, name):
    (folder / name).unlink()
    before = state(folder.parents[1])
    with pytest.raises(UserError, match="is missing") as error:
        mnist.load()
    assert name in str(error.value)
    assert official[name] in str(error.value)
    assert state(folder.parents[1]) == before


@pytest.mark.parametrize("name", NAMES)
def test_partial_archive_is_named_with_its_checksum_and_left_alone(official, folder, name):
    partial = (folder / name).read_bytes()[:-10]
    (folder / name).write_bytes(partial)
    before = state(folder.parents[1])
    with pytest.raises(UserError, match="not the official file") as error:
        mnist.load()
    assert name in str(error.value)
    assert f"expected {official[name]}" in str(error.value)
    assert hashlib.md5(partial).hexdigest() in str(error.value)
    assert state(folder.parents[1]) == before


def test_whole_but_unofficial_archives_are_refused(folder):
    with pytest.raises(UserError, match=f"{NAMES[0]} is not .* expected {MNIST_MD5S[NAMES[0]]}"):
        mnist.load()


def test_failed_download_names_the_remedies(cache, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", offline)
    with pytest.raises(UserError, match="could not be downloaded") as error:
        mnist.load()
    assert "FEWLABELS_DATA" in str(error.value)
    assert "dataset=digits" in str(error.value)
    assert "no route" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unpacked", [False, True])
def test_partial_and_missing_archives_in_the_cache_are_fetched(
    official, cache, archives, monkeypatch, unpacked
):
    def download(url, download_root, filename, md5):
        archive = Path(download_root) / filename
        if not archive.exists():
            archive.write_bytes(archives[filename])
            fetched.append(filename)
        archive.with_suffix("").write_bytes(gzip.decompress(archives[filename]))

    fetched = []
    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", download)
    cache.mkdir(parents=True)
    if unpacked:
        for name, content in archives.items():
            (cache / name).with_suffix("").write_bytes(gzip.decompress(content))
    (cache / NAMES[0]).write_bytes(archives[NAMES[0]][:-10])
    (cache / NAMES[1]).write_bytes(archives[NAMES[1]])
    assert len(mnist.load().train.labels) == 6
    assert sorted(fetched) == sorted([NAMES[0], *NAMES[2:]])


LABELS = torch.tensor([2, 0, 1, 1, 0, 2, 0, 1, 2, 0, 1, 2])


def test_draw_takes_as_many_of_every_class_without_repeats():
    drawn = draw_labels(LABELS, 3, seed=0)
    assert LABELS[drawn].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert len(set(drawn.tolist())) == 9


def test_draws_with_one_seed_are_nested():
    labels = torch.arange(500) % 10
    for seed in range(3):
        sets = [set(draw_labels(labels, k, seed).tolist()) for k in (1, 2, 10, 50)]
        assert sets[0] < sets[1] < sets[2] < sets[3]


def test_draws_repeat_with_their_seed_and_differ_between_seeds():
    labels = torch.arange(500) % 10
    state = torch.get_rng_state()
    draws = [draw_labels(labels, 10, seed) for seed in (0, 1, 0)]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_are_those_that_the_records_of_the_book_were_made_with():
    labels = torch.arange(12) % 2
    assert draw_labels(labels, 2, seed=3).tolist() == [8, 0, 1, 3]
    assert draw_fraction(labels, 0.5, seed=3).tolist() == [0, 1, 3, 6, 7, 8]


def test_every_image_of_a_class_is_drawn_equally_often():
    labels = torch.zeros(5, dtype=torch.int64)
    counts = torch.zeros(5)
    for seed in range(500):
        counts[draw_labels(labels, 2, seed)] += 1
    # 500 draws of 2 in 5: 200 each, standard deviation 11.
    assert (counts - 200).abs().max() < 50


@pytest.mark.parametrize("per_class", [0, 5])
def test_draw_beyond_a_class_is_refused(per_class):
    with pytest.raises(UserError, match=f"{per_class} labels per class .* class 0 has 4 .*1 to 4"):
        draw_labels(LABELS, per_class, seed=0)


def test_hold_out_is_disjoint_complete_and_stratified():
    kept, out = hold_out(LABELS, 1, seed=3)
    assert sorted(kept.tolist() + out.tolist()) == list(range(12))
    assert sorted(LABELS[out].tolist()) == [0, 1, 2]
    assert kept.tolist() == sorted(kept.tolist())
