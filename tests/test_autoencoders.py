"""Chapter 7: its networks, runs, plan and verdicts."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import first, only
from torch import nn
from torch.nn import functional as F
from toy_runs import measured

from fewlabels import chapters, data
from fewlabels import evidence as ev
from fewlabels.book import notebooks
from fewlabels.chapters import autoencoders_vae as chapter
from fewlabels.chapters import profiles
from fewlabels.data import digits
from fewlabels.errors import UserError
from fewlabels.kinds import denoising
from fewlabels.kinds.denoising import (
    ClassicalFilter,
    CodeProbe,
    DenoisingTraining,
    filter_settings,
    filtered,
    noised,
    paired_noise,
    train_and_held_out,
)
from fewlabels.kinds.vae import (
    BinaryVAE,
    DigitReader,
    PlaneVAE,
    binarised,
    bounds,
    confidence,
    grid,
    log_bernoulli,
)
from fewlabels.learn import probes
from fewlabels.learn.training import Recipe
from fewlabels.nets.autoencoders import DenoisingAutoencoder, SmallUNet, dense_vae, sheet_vae
from fewlabels.nets.variational import kl_divergence
from fewlabels.runs.records import Store

SHORT = Recipe(steps=12, batch_size=32, rate=0.001, evaluations=3)


@pytest.fixture(scope="module", autouse=True)
def few_images():
    with only(first(digits.load(), 400, 60), denoising._CODES.clear) as images:
        yield images


def training(**changes) -> DenoisingTraining:
    own = DenoisingTraining(
        "digits", "sheet", "mse", "linear", "fixed", 0.2, 0, SHORT, (0.2, 0.4), 20
    )
    return replace(own, **changes)


READER = DigitReader("digits", 0, SHORT)


# The networks


def test_the_bottleneck_and_the_parameters_are_those_of_the_sheet():
    network = DenoisingAutoencoder()
    images = torch.rand(2, 1, 28, 28)
    assert network.encoder(images).shape == (2, 32, 7, 7)
    assert network(images).shape == images.shape
    # 3 x 3 filters and a bias each, layer by layer.
    layers = [(1, 16), (16, 32), (32, 32), (32, 16), (16, 1)]
    assert count(network) == sum(9 * a * b + b for a, b in layers) == 18_817


def test_the_vae_has_the_parameters_that_keras_would_print():
    network = sheet_vae()
    dense = 1568 * 16 + 16 + 2 * (16 * 2 + 2)
    assert count(network.encoder) == 9 * 32 + 32 + 9 * 32 * 32 + 32 + dense == 34_740
    convolutions = 9 * 32 * 32 + 32 + 9 * 32 * 16 + 16 + 9 * 16 + 1
    assert count(network.decoder) == 2 * 1568 + 1568 + convolutions == 18_721


def test_the_vae_encodes_to_two_pairs_and_decodes_to_images():
    network = sheet_vae()
    decoded, mean, log_variance = network(torch.rand(3, 1, 28, 28))
    assert mean.shape == log_variance.shape == (3, 2)
    assert decoded.shape == (3, 1, 28, 28)
    assert 0 <= decoded.min().item() <= decoded.max().item() <= 1


@pytest.mark.parametrize("network", [SmallUNet(), dense_vae(5).decoder])
def test_our_networks_return_images(network):
    given = torch.rand(3, 1, 28, 28) if isinstance(network, SmallUNet) else torch.rand(3, 5)
    assert network(given).shape == (3, 1, 28, 28)


def test_rectifying_after_pooling_is_rectifying_before_it():
    convolution, pooling, _ = DenoisingAutoencoder().encoder[:3]
    features = convolution(torch.rand(2, 1, 28, 28) - 0.5)
    assert torch.equal(pooling(features).relu(), pooling(features.relu()))


def test_geometry_is_that_of_keras_same_padding_mirrored():
    # Keras pads one row below and one column right of an even side, and none above or left.
    torch.manual_seed(0)
    x = torch.randn(1, 1, 28, 28)
    keras = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 3, 2)
    ours = nn.MaxPool2d(3, 2, padding=1)(x.flip(2, 3)).flip(2, 3)
    assert torch.equal(ours, keras)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Noise and filters


def test_noise_has_its_deviation_and_is_clipped():
    grey = torch.full((200, 1, 28, 28), 0.5)
    torch.manual_seed(0)
    noisy = noised(grey, 0.1)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.01)
    assert noised(grey, 5.0).unique()[[0, -1]].tolist() == [0, 1]


def test_each_image_may_have_its_own_level():
    levels = torch.tensor([0.0, 0.3]).view(2, 1, 1, 1)
    noisy = noised(torch.full((2, 1, 28, 28), 0.5), levels)
    assert noisy[0].std() == 0 and noisy[1].std() > 0.2


def test_every_method_meets_the_same_noise(few_images):
    clean = few_images.test.images[:4].float() / 255
    assert torch.equal(paired_noise(clean, 0.4, 1), paired_noise(clean, 0.4, 1))
    assert not torch.equal(paired_noise(clean, 0.4, 1), paired_noise(clean, 0.4, 2))
    assert not torch.equal(paired_noise(clean, 0.4, 1), paired_noise(clean, 0.2, 1))


def test_a_median_removes_a_single_speck():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4, 4] = 1
    assert filtered("median", image, size=3).max() == 0
    assert torch.equal(filtered("median", image, size=1), image)


@pytest.mark.parametrize("name", ["median", "bilateral", "non-local means"])
def test_filters_reduce_weak_noise_on_a_flat_image(name):
    torch.manual_seed(0)
    flat = torch.full((1, 1, 28, 28), 0.5)
    noisy = noised(flat, 0.1)
    best = min(
        (filtered(name, noisy, **each) - flat).square().mean().item()
        for each in filter_settings(name, 0.1)
    )
    assert best < 0.5 * (noisy - flat).square().mean().item()


def test_an_unknown_filter_is_refused():
    with pytest.raises(UserError, match="filter"):
        filtered("mean", torch.zeros(1, 1, 3, 3))


def test_held_out_images_are_the_last_and_at_most_a_sixth(few_images):
    train, held = train_and_held_out(few_images)
    assert len(train.labels) == 400 - 400 // 6
    assert torch.equal(held.images, few_images.train.images[-(400 // 6) :])


# Runs


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"output": "sigmoid"},
        {"loss": "bce", "output": "sigmoid"},
        {"loss": "l1"},
        {"noise": "fresh"},
        {"noise": "mixed", "level": 0.8},
        {"network": "u-net", "noise": "mixed"},
    ],
    ids=str,
)
def test_every_denoiser_lowers_its_loss_and_is_scored_at_every_level(change, store, fabric):
    record = store.run(training(**change), fabric)
    losses = record.curves["train_loss"]
    assert losses[-1] < losses[0]
    assert {f"psnr_{level}" for level in (0.2, 0.4)} <= set(record.metrics)
    assert record.predictions["restored_0.4"].shape == (5, 28, 28)


def test_a_run_repeats_itself(store, fabric, tmp_path):
    again = Store(tmp_path)
    assert measured(store.run(training(), fabric)) == measured(again.run(training(), fabric))


def test_fixed_noise_is_drawn_once(monkeypatch, fabric, store):
    calls = Counter()

    def counting(images, level, generator=None):
        calls["paired" if generator is not None else "training"] += 1
        return images

    monkeypatch.setattr(denoising, "noised", counting)
    for noise, expected in (("fixed", 1), ("fresh", SHORT.steps)):
        calls.clear()
        training(noise=noise).execute(fabric, store)
        assert calls["training"] == expected


def test_an_untrained_network_is_not_scored(store, fabric):
    nothing = Recipe(steps=0, batch_size=1, rate=0.001, evaluations=0)
    record = store.run(training(training=nothing), fabric)
    assert record.metrics == {} and record.parameters["trained"] == 0


def test_a_filter_chooses_on_training_images_only(few_images, monkeypatch, fabric, store):
    class Poison:
        def __getattribute__(self, name):
            raise AssertionError("the test set was touched")

    run = ClassicalFilter("digits", "median", 0, (0.4,), 20, 5)
    monkeypatch.setattr(data, "load", lambda name: replace(few_images, test=Poison()))
    held = few_images.train.images[-5:].float() / 255
    assert run._choose(held, 0.4)["size"] > 1
    with pytest.raises(AssertionError, match="touched"):
        run.execute(fabric, store)


def test_a_probe_takes_chapter_ones_labels(few_images, monkeypatch, fabric, store):
    seen = {}

    def probe(own, labels, others, num_classes):
        seen["images"], seen["labels"] = own, labels
        return np.full((len(others), 10), 0.1)

    monkeypatch.setattr(probes, "knn", probe)
    CodeProbe("digits", None, "kNN", 100, 3).execute(fabric, store)
    drawn = data.draw_labels(few_images.train.labels, 10, 3)
    assert np.array_equal(seen["labels"], few_images.train.labels[drawn].numpy())
    expected = few_images.train.images[drawn].flatten(1).float() / 255
    assert np.array_equal(seen["images"], expected.numpy())


@pytest.mark.parametrize("readout", ["linear probe", "kNN"])
def test_the_code_tells_digits_apart(readout, store, fabric):
    record = store.run(CodeProbe("digits", training(), readout, 100, 0), fabric)
    assert record.metrics["accuracy"] > 0.4
    assert record.predictions["classes"].shape == (60,)


@pytest.mark.parametrize(
    "change",
    [
        {"network": "resnet"},
        {"loss": "huber"},
        {"loss": "bce"},
        {"output": "relu"},
        {"network": "u-net", "output": "sigmoid"},
        {"noise": "salt"},
        {"level": 0.0},
        {"seed": -1},
        {"test_images": 1},
    ],
    ids=str,
)
def test_impossible_denoisers_are_refused(change):
    with pytest.raises(UserError):
        training(**change)


def test_impossible_probes_are_refused():
    with pytest.raises(UserError, match="labels is 15"):
        CodeProbe("digits", None, "kNN", 15, 0)
    with pytest.raises(UserError, match="u-net"):
        CodeProbe("digits", training(network="u-net"), "kNN", 100, 0)


def test_the_vae_lowers_its_loss_and_reports_its_plane(store, fabric):
    recipe = Recipe(steps=40, batch_size=64, rate=0.001, evaluations=4)
    record = store.run(PlaneVAE("digits", 1e-4, 0, recipe, READER), fabric)
    losses = record.curves["train_loss"]
    assert losses[-1] < losses[0]
    assert record.predictions["grid"].shape == (100, 28, 28)
    assert record.predictions["plane"].shape == (60, 2)
    assert record.parameters["encoder"] == 34_740
    assert set(record.metrics) >= {"mse", "kl", "elbo_own", "elbo_best", "active_units", "digits"}


def test_collapse_is_found(store, fabric):
    recipe = Recipe(steps=60, batch_size=64, rate=0.003, evaluations=1)
    record = store.run(PlaneVAE("digits", 10.0, 1, recipe, READER), fabric)
    assert record.metrics["active_units"] == 0
    assert record.metrics["kl"] < 0.05
    assert "grid" not in record.predictions


def test_the_bernoulli_vae_tightens_its_bound(store, fabric):
    recipe = Recipe(steps=60, batch_size=64, rate=0.003, evaluations=3)
    record = store.run(BinaryVAE("digits", 2, 0, recipe, 20), fabric)
    assert record.curves["valid_loss"][-1] < record.curves["valid_loss"][0]
    assert record.metrics["importance_bound"] > record.metrics["elbo"]


def test_bernoulli_by_hand():
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    binary = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    expected = np.log(0.5) + np.log(1 - 1 / (1 + np.exp(-2)))
    assert log_bernoulli(logits, binary).item() == pytest.approx(expected)


def test_bounds_are_terms_of_one_sum():
    torch.manual_seed(0)
    network = dense_vae(2)
    binary = torch.bernoulli(torch.full((30, 1, 28, 28), 0.3))
    found = bounds(network, binary, samples=50)
    mean, log_variance = network.encode(binary)
    assert found["kl"] == pytest.approx(kl_divergence(mean, log_variance).mean().item(), rel=1e-5)
    assert found["elbo"] < found["importance_bound"] < 0


def test_binarised_images_keep_black_white_and_their_mean():
    grey = torch.tensor([0, 255, 128], dtype=torch.uint8).view(1, 1, 1, 3).expand(4000, 1, 1, 3)
    binary = binarised(grey, seed=0)
    assert torch.equal(binary[..., :2].mean(dim=0).flatten(), torch.tensor([0.0, 1.0]))
    assert binary[..., 2].mean().item() == pytest.approx(128 / 255, abs=0.03)


def test_the_grid_runs_from_left_to_right_and_from_top_to_bottom():
    points = grid()
    assert points.shape == (100, 2)
    assert points[0].tolist() == [-3, 3]
    assert points[9].tolist() == [3, 3]
    assert points[-1].tolist() == [3, -3]


def test_confidence_by_hand():
    found = confidence(torch.tensor([[0.95, 0.05], [0.4, 0.6]]))
    assert found["confidence"] == pytest.approx(0.775)
    assert found["confident"] == 0.5


# The plan


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unlabelled", 99),
        ("denoising_images", 99),
        ("denoising_seeds", 0),
        ("extra_seeds", 7),
        ("levels", [0.1, 0.2]),
        ("levels", 0.4),
        ("weights", [0.1, 1.0]),
        ("weights", [1e-3, 1e-2, 1e-1]),
        ("weights", [1.0, 1.0, 0.1]),
        ("weights", [1.0, -1.0, 0.1]),
        ("long_weights", [0]),
        ("long_weights", [[1]]),
        ("levels", [0.2, 0.4, {}]),
        ("weights", [1.0, 0.1, 0.01, [1]]),
        ("latent_numbers", [0]),
        ("latent_numbers", [[2]]),
        ("latent_numbers", [2, 2]),
        ("latent_numbers", []),
        ("test_images", 4),
        ("long_denoising_seeds", -1),
        ("vae_epochs", 0),
        ("importance_samples", 1.5),
    ],
)
def test_settings_refuse_what_cannot_be_by_name(key, value):
    with pytest.raises(UserError, match=f"^{key} is "):
        settings(**{key: value})


def settings(profile: str = "full", **changes) -> chapter.Settings:
    return profiles.settings(chapter.NAME, profile, **changes)


def test_the_plan_has_the_runs_counted_by_hand():
    chosen = settings(
        denoising_seeds=4,
        extra_seeds=2,
        long_denoising_seeds=1,
        probe_draws=5,
        vae_seeds=3,
        weights=[1e-3, 1e-1, 1.0, 10.0],
        long_weights=[1.0],
        latent_numbers=[2, 8, 20],
        binary_seeds=2,
    )
    assert Counter(type(run) for run in chapter.plan(chosen)) == {
        # Three losses for each seed, four more networks for two of them, one long, and the
        # untrained floor.
        DenoisingTraining: 4 * 3 + 2 * 4 + 1 + 4,
        ClassicalFilter: 4 * 4,
        CodeProbe: 5 * 3 * 2,
        DigitReader: 1,
        PlaneVAE: 4 * 3 + 1,
        BinaryVAE: 3 * 2,
    }


def test_what_is_trained_as_long_anyway_is_not_planned_twice():
    chosen = settings(denoising_epochs=20, vae_epochs=15, long_weights=[1.0], long_epochs=15)
    assert chapter.long_denoising(chosen) == [] and chapter.long_planes(chosen) == []


def test_the_sheet_is_repeated_to_the_letter():
    chosen = settings(long_denoising_seeds=1, long_weights=[1.0], long_epochs=15)
    run = chapter.long_denoising(chosen)[0]
    assert (run.network, run.loss, run.noise, run.level) == ("sheet", "mse", "fixed", 0.2)
    assert (run.training.batch_size, run.training.rate, run.training.optimiser) == (
        32,
        0.001,
        "adam",
    )
    # All but the thousand images that are held out.
    assert run.training.steps == 20 * -(-59_000 // 32)
    plane = chapter.long_planes(chosen)[0]
    assert (plane.training.batch_size, plane.training.rate) == (128, 0.001)
    assert plane.training.steps == 15 * -(-59_000 // 128)


def test_chapter_ones_records_are_inputs_where_the_images_are_the_same():
    assert chapter.inputs(settings(dataset="digits")) == []
    assert all(file.suffix == ".json" for file in chapter.inputs(settings()))
    assert {run.labels for run in chapter.chapter_one(settings())} == {100}


# What the notebook asks, of records made by hand


PLANES = {1e-4: (9.0, 0.040, 2.0), 1e-2: (5.0, 0.044, 2.0), 1.0: (0.0, 0.067, 0.0)}
"""Weight -> KL, MSE and active units: the knee is the one in the middle."""
SHARED = {
    "mse": [17.0, 17.2, 17.1],
    "bce": [15.0, 15.1, 15.0],
    "l1": [14.0, 14.1, 14.2],
    "sigmoid": [9.0, 9.0, 9.0],
    "median": [15.0, 15.1, 15.2],
    "knn": 0.2,
    "confident": [0.0, 0.001, 0.002],
    "digits": [9.0, 9.0, 8.0],
}
"""PSNR at noise 0.4 by method and seed, and what the plane at weight 1 is worth."""


def notebook(monkeypatch, **changes) -> dict:
    """What the notebook's cells for runs and claims define, over records with these figures."""
    figures = SHARED | changes
    chosen = settings(
        dataset="digits",
        levels=[0.2, 0.4],
        denoising_seeds=len(figures["mse"]),
        extra_seeds=len(figures["mse"]),
        long_denoising_seeds=len(figures.get("long", [])),
        weights=[*PLANES],
        long_weights=[],
        probe_draws=1,
    )
    found = ev.frame(chapter.plan(chosen), Given(figures))
    monkeypatch.setattr(ev, "runs", lambda chapter, settings: found)
    values = {name: getattr(chosen, name) for name in profiles.parameters(chapter.NAME)}
    return notebooks.evaluate(chapters.notebook(chapter.NAME), values, "runs", "claims")


class Given:
    """A store that holds a record for every run, with what it measured made from ``figures``."""

    def __init__(self, figures: dict):
        self.figures = figures

    def get(self, run):
        metrics, curves = {"accuracy": 0.5}, {}
        if isinstance(run, PlaneVAE):
            rate, error, active = PLANES[run.weight]
            at_one = run.weight == 1
            curves = {"valid_kl": [rate], "valid_mse": [error]}
            metrics = {
                "kl": rate,
                "mse": error,
                "active_units": active,
                "elbo_own": rate,
                "knn_accuracy": self.figures["knn"] if at_one else 0.6 + 0.01 * run.seed,
                "confident": self.figures["confident"][run.seed] if at_one else 0.7,
                "digits": self.figures["digits"][run.seed] if at_one else 9.0,
            }
        elif isinstance(run, DenoisingTraining | ClassicalFilter):
            metrics = self.denoised(run)
        return SimpleNamespace(
            id=run.id, metrics=metrics, curves=curves, parameters={}, seconds=1.0, predictions={}
        )

    def denoised(self, run) -> dict[str, float]:
        if isinstance(run, ClassicalFilter):
            name, black = run.filter, False
        else:
            black = run.output == "sigmoid" and run.loss == "mse"
            steps = chapter.SHEET_EPOCHS["denoising"] * chapter.epoch("digits", 60_000, 32)
            name = "sigmoid" if black else run.loss
            name = "long" if run.training.steps == steps else name
            if run.noise != "fixed" or not run.training.steps:
                name = "others"
        value = self.figures.get(name, [11.0, 11.0, 11.1])[run.seed]
        errors = {"mse_0.2": 0.1, "mse_0.4": 0.1 if black else 0.2}
        return {"psnr_0.2": value + 4, "psnr_0.4": value} | errors


def claim(names: dict, id: str) -> dict:
    return next(row for row in names["claims"] if row["claim"].id == id)


def test_runs_are_called_by_what_they_are_and_keep_two_lengths_apart(monkeypatch):
    names = notebook(monkeypatch, long=[18.0, 18.1, 18.2])
    called = names["runs"].groupby("name")["epochs"].unique().map(sorted)
    assert called["sheet: MSE, linear, fixed noise 0.2"] == [0, 1, 20]
    assert called["U-Net: MSE, linear, mixed noise to 0.8"] == [1]
    assert called["median filter"] == [0]
    assert {len(names[rows]) for rows in ("sheet", "bce", "l1", "sigmoid", "unet", "long")} == {3}
    assert set(names["denoisers"]["epochs"]) == {0, 1}


@pytest.mark.parametrize(
    ("sheet", "word"),
    [
        ([17.0, 17.2, 17.1], "yes"),
        ([14.0, 14.2, 14.1], "no"),
        ([14.0, 15.2, 16.0], "undecided"),
        ([17.0], "not tested"),
    ],
)
def test_a1_is_decided_against_the_best_filter(monkeypatch, sheet, word):
    row = claim(notebook(monkeypatch, mse=sheet), "A1")
    assert str(row["verdict"]) == word
    assert "median filter" in row["note"] and "dB" in row["ours"]
    assert row["deviation"].startswith("Epochs times images: 1 x")


def test_a1_is_decided_by_the_sheets_own_epochs_where_enough_seeds_have_them(monkeypatch):
    row = claim(notebook(monkeypatch, long=[14.0, 14.2, 14.1]), "A1")
    assert str(row["verdict"]) == "no" and "held out" in row["deviation"]
    assert row["ours"].startswith("14.10 [")
    row = claim(notebook(monkeypatch, long=[14.0, 14.2]), "A1")
    assert str(row["verdict"]) == "yes" and row["ours"].startswith("17.10 [")


@pytest.mark.parametrize(
    ("bce", "word"),
    [
        ([15.0, 15.1, 15.0], "yes"),
        ([18.0, 18.1, 18.0], "no"),
        ([16.0, 18.0, 17.1], "undecided"),
    ],
)
def test_a2_asks_for_both_other_losses(monkeypatch, bce, word):
    row = claim(notebook(monkeypatch, bce=bce), "A2")
    assert str(row["verdict"]) == word
    assert "black images in 3 of 3 seeds" in row["note"]


@pytest.mark.parametrize(("knn", "word"), [(0.2, "yes"), (0.8, "no"), (0.61, "undecided")])
def test_a3_compares_the_knee_with_the_printed_weight(monkeypatch, knn, word):
    names = notebook(monkeypatch, knn=knn)
    assert names["knee"] == 1e-2
    row = claim(names, "A3")
    assert str(row["verdict"]) == word
    assert "collapses in 3 of 3 seeds" in row["note"]


@pytest.mark.parametrize(
    ("share", "digits", "word"),
    [
        ([0.0, 0.01, 0.02], [9.0, 9.0, 8.0], "no"),
        ([0.9, 0.91, 0.92], [9.0, 9.0, 8.0], "yes"),
        ([0.97, 0.98, 0.99], [1.0, 1.0, 2.0], "no"),
        ([0.3, 0.5, 0.7], [9.0, 9.0, 8.0], "undecided"),
    ],
)
def test_a4_asks_for_most_cells_and_most_digits(monkeypatch, share, digits, word):
    row = claim(notebook(monkeypatch, confident=share, digits=digits), "A4")
    assert str(row["verdict"]) == word
