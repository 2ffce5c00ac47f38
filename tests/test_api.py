"""The library as its docstrings promise it, and the examples."""

import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch

import fewlabels
from fewlabels import api, paths
from fewlabels.book import advise, notebooks
from fewlabels.errors import UserError

PIXELS = (np.random.default_rng(0).integers(0, 256, (24, 28, 28, 3))).astype(np.uint8)


def test_importing_the_package_is_light():
    heavy = "[m for m in ('torch', 'sklearn', 'pandas', 'matplotlib') if m in sys.modules]"
    code = f"import sys, fewlabels; assert not {heavy}; assert callable(fewlabels.pretrain)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {*fewlabels.__all__} <= {*dir(fewlabels)}
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = fewlabels.train


@pytest.mark.parametrize("method", ["simclr", "moco", "vicreg", "rotation", "mae", "aim"])
def test_every_method_makes_features(method):
    encoder = fewlabels.pretrain(PIXELS, method, epochs=1, device="cpu")
    found = fewlabels.features(encoder, PIXELS[:5])
    assert found.shape[0] == 5 and found.dtype == np.float32 and np.isfinite(found).all()
    # One image alone has the features that it has among others.
    assert fewlabels.features(encoder, PIXELS[:1]) == pytest.approx(found[:1], abs=1e-4)


def test_a_seed_repeats_and_training_changes():
    one, two, other = (
        fewlabels.features(fewlabels.pretrain(PIXELS, epochs=e, seed=0, device="cpu"), PIXELS)
        for e in (1, 1, 0)
    )
    assert (one == two).all() and not np.allclose(one, other)


def test_grey_arrays_and_tensors_are_the_same_images():
    grey = PIXELS[..., 0]
    encoder = fewlabels.pretrain(grey, epochs=0, device="cpu")
    tensor = torch.from_numpy(grey).unsqueeze(1)
    found = fewlabels.features(encoder, grey)
    assert (found == fewlabels.features(encoder, tensor)).all()
    assert (found == encoder(tensor).detach().numpy()).all()


def test_a_probe_is_an_estimator():
    labels = np.arange(24) % 3
    features = np.eye(3)[labels] + np.random.default_rng(0).normal(0, 0.1, (24, 3))
    model = fewlabels.probe(features, labels)
    assert model.score(features, labels) == 1
    assert model.predict_proba(features).sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fewlabels.pretrain(PIXELS / 255), "uint8, square"),
        (lambda: fewlabels.pretrain(PIXELS[:, :20]), "uint8, square"),
        (lambda: fewlabels.pretrain(PIXELS[:1]), "two or more"),
        (lambda: fewlabels.pretrain(PIXELS, "dino"), "method is 'dino'"),
        (lambda: fewlabels.pretrain(PIXELS[:, :25, :25], "mae"), "multiples of 7"),
        (lambda: fewlabels.pretrain(PIXELS, symmetry="all"), "symmetry is 'all'"),
        (
            lambda: fewlabels.pretrain(PIXELS, "mae", network="resnet18"),
            "allowed: vit-narrow, vit-28",
        ),
        (lambda: fewlabels.pretrain(PIXELS, network="vit-b32"), "allowed: pocket, resnet18"),
        (lambda: fewlabels.pretrain(PIXELS, device="gpu0"), "device is 'gpu0'"),
        (lambda: fewlabels.probe(np.zeros((3, 2)), np.zeros(3, int)), "one class"),
        (lambda: fewlabels.probe(np.zeros((3, 2)), np.arange(2)), "for 2 labels"),
        (lambda: fewlabels.probe(np.full((2, 2), np.nan), np.arange(2)), "finite"),
        (lambda: fewlabels.probe(np.zeros((2, 2)), ["a", "b"]), "pass integer .* from 0 on"),
        (lambda: fewlabels.probe(np.zeros((2, 2)), [-1, 0]), "from -1 to 0: .* from 0 on"),
        (lambda: fewlabels.compare({"a": np.zeros((3, 4))}, np.zeros(5, int)), "a has predictions"),
        (lambda: fewlabels.compare({"a": []}, [0, 1]), r"a has predictions \[1, 0\] for 2"),
        (lambda: fewlabels.compare({"a": np.zeros((0, 2), int)}, [0, 1]), r"\[0, 2\] for 2"),
        (lambda: fewlabels.compare({"a": [[0, 1], [0]]}, np.zeros(2, int)), "a cannot be made one"),
        (lambda: fewlabels.compare({}, np.zeros(2, int)), "one method or more"),
        (lambda: fewlabels.compare([[0, 1]], [0, 1]), "no dictionary"),
        (lambda: fewlabels.compare(np.zeros((3, 2), int), [0, 1]), "no dictionary"),
        (lambda: fewlabels.features(fewlabels.pretrain(PIXELS, epochs=0), PIXELS[..., 0]), "takes"),
        (lambda: fewlabels.features(None, PIXELS), "encoder is NoneType; allowed: what `pretrain`"),
        (lambda: fewlabels.features(torch.nn.Flatten(), PIXELS), "encoder is Flatten"),
    ],
)
def test_what_does_not_fit_is_told(call, words):
    with pytest.raises(UserError, match=words):
        call()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.0, np.nan], "a is float64: pass integer"),
        ([0.1, 0.9], "a is float64: pass integer"),
        (["0", "1"], "a is <U1: pass integer"),
        ([True, False], "a is bool: pass integer"),
        ([0, -1], "a runs from -1 to 0: pass integer class indices from 0 on"),
        ([None, 1], "a is object: pass integer"),
        ([torch.ones(2, requires_grad=True)], "a cannot be made one array"),
    ],
)
def test_predictions_that_are_no_classes_are_not_scored(given, words):
    with pytest.raises(UserError, match=words):
        fewlabels.compare({"a": given}, [0, 1])


@pytest.mark.parametrize("labels", [None, 3, [], [[0], [1]], [0.0, np.nan], [0, -1], [[0], [1, 2]]])
def test_labels_that_are_none_are_named(labels):
    for call in (fewlabels.compare, fewlabels.probe):
        given = {"a": [0, 1]} if call is fewlabels.compare else np.zeros((2, 2))
        with pytest.raises(UserError, match=r"^labels "):
            call(given, labels)


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((2, 0)),
        np.zeros((2, 2), complex),
        np.zeros((2, 2), object),
        [["a", "b"], ["c", "d"]],
        [[1], [1, 2]],
        torch.ones(2, 2, requires_grad=True),
    ],
)
def test_features_that_are_no_numbers_are_named(features):
    with pytest.raises(UserError, match=r"^features (is .* for 2 labels; allowed: num|cannot be)"):
        fewlabels.probe(features, [0, 1])


@pytest.mark.parametrize("c", ["1", np.nan, np.inf, 0, None])
def test_a_penalty_is_a_number_above_zero(c):
    with pytest.raises(UserError, match=r"^c is .*; allowed: a number above zero"):
        fewlabels.probe(np.eye(2), [0, 1], c)
    assert fewlabels.probe(np.eye(2), [0, 1], np.int64(2))[-1].C == 2


@pytest.mark.parametrize("seed", ["a", None, 2**70, 1.5, -1])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(UserError, match=r"^seed is .*; allowed: a whole number, 0 to"):
        fewlabels.pretrain(PIXELS, epochs=0, seed=seed)


@pytest.mark.parametrize("images", [None, "x", [], [1], [[1], [1, 2]], PIXELS[0, 0, 0], PIXELS[:0]])
def test_what_are_no_images_is_told(images):
    for call in (fewlabels.pretrain, lambda each: fewlabels.features("resnet18", each)):
        with pytest.raises(UserError, match=r"^images (are .* one or more|cannot be made one arr)"):
            call(images)


@pytest.mark.filterwarnings("error")
def test_mirrored_and_read_only_images_are_images():
    encoder = fewlabels.pretrain(PIXELS, epochs=0, device="cpu")
    fixed = PIXELS.copy()
    fixed.flags.writeable = False
    found = fewlabels.features(encoder, PIXELS)
    assert (fewlabels.features(encoder, fixed) == found).all()
    assert (fewlabels.features(encoder, PIXELS[::-1]) == found[::-1]).all()


def test_features_of_an_encoder_that_trains_are_those_of_one_that_does_not():
    encoder = fewlabels.pretrain(PIXELS, epochs=0, device="cpu")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    found = fewlabels.features(encoder, PIXELS)
    assert (fewlabels.features(encoder.train(), PIXELS) == found).all() and encoder.training
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())


def test_compare_counts_every_class_the_same():
    # Two classes of 8 and 2 images: one method knows the large one, the other also the small one.
    truth = np.array([0] * 8 + [1] * 2)
    one = np.zeros((3, 10), int)
    two = np.stack([truth] * 3)
    two[0, 0] = 1
    found = fewlabels.compare({"one": one, "two": two}, truth).set_index("method")
    assert found.loc["one", "accuracy"] == 0.5
    # By hand: recalls 23/24 and 1.
    assert found.loc["two", "accuracy"] == pytest.approx((23 / 24 + 1) / 2)
    assert found.loc["two", "difference"] == pytest.approx((23 / 24 + 1) / 2 - 0.5)
    assert found.loc["one", "difference"] == 0 and np.isnan(found.loc["one", "p"])


def test_epochs_may_be_a_number_of_numpy():
    images = np.zeros((4, 28, 28), np.uint8)
    fewlabels.pretrain(images, "simclr", epochs=np.int64(0), device="cpu")


def test_two_draws_give_no_interval_and_no_distance_that_they_would_find():
    truth = np.array([0] * 8 + [1] * 2)
    two = np.stack([truth] * 2)
    two[0, 0] = 1
    found = fewlabels.compare({"one": np.zeros((2, 10), int), "two": two}, truth)
    assert found.loc[1, ["low", "high", "p", "detectable"]].isna().all()


def test_a_class_with_one_image_leaves_a_method_no_distance_to_itself():
    truth = np.array([0] * 8 + [1])
    found = fewlabels.compare({"one": np.zeros((3, 9), int), "two": np.ones((3, 9), int)}, truth)
    assert found.loc[0, ["low", "high", "detectable"]].isna().all()
    # Differences from -1 to 1: the only image of class 1 may have a variance of 1.
    assert found.loc[1, "high"] - found.loc[1, "low"] > 2 * 1.96 * 0.5


def test_the_script_runs(capsys):
    script = runpy.run_path(str(paths.ROOT / "examples/few_labels.py"))
    script["main"]("cells", epochs=1)
    assert "SimCLR" in capsys.readouterr().out


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    source, output = paths.ROOT / "examples/advise.ipynb", tmp_path / "out.ipynb"
    notebooks.execute(source, output, {"path": str(tmp_path / "mine.npz"), "minutes": 0.0})
    assert output.exists() and (tmp_path / "mine.npz").exists()


def test_every_public_function_says_shapes_and_errors():
    for name in ("pretrain", "features", "probe", "compare"):
        text = getattr(api, name).__doc__
        assert all(part in text for part in ("Args:", "Returns:", "Raises:", "[N")), name
    assert "Raises:" in advise.advise.__doc__
