"""Every metric says its convention, and keeps to it where common conventions disagree."""

import importlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage, special, stats
from sklearn import metrics

from fewlabels import data
from fewlabels.data import Split, corners, duplicates
from fewlabels.evidence import predictions
from fewlabels.evidence.spread import roughness, variance_components
from fewlabels.kinds import angles as angle_runs
from fewlabels.kinds import chest_xray, measured, ssl, vae, xray_questions
from fewlabels.learn import angles, equivariance, evaluation, fusion, image_quality, orientation
from fewlabels.nets import variational

STATED = {
    "data.corners": ("borders", "corner_colours"),
    "data.duplicates": ("near", "twins"),
    "data.images": ("channel_statistics",),
    "evidence.advice": ("estimate",),
    "evidence.predictions": (
        *("by_class", "confused", "hits", "mixed_up", "recalls", "split_variance"),
    ),
    "evidence.spread": ("deviations", "roughness", "variance_components"),
    "evidence.statistics": ("mean_interval",),
    "kinds.chest_xray": ("best_threshold", "moved_threshold", "scores"),
    "kinds.measured": ("accuracy", "validation"),
    "kinds.ssl": ("on_new_images",),
    "kinds.vae": ("bounds", "confidence", "log_bernoulli", "plane_metrics", "rate_and_distortion"),
    "kinds.xray_questions": ("class_maps", "correlations", "outside"),
    "learn.angles": ("difference", "Circle.losses", "Number.losses"),
    "learn.equivariance": ("ErrorMap.over", "ErrorMap.relative"),
    "learn.evaluation": (
        *("calibration_error", "confusion", "evaluate", "mistakes", "of_classes", "per_class"),
        "reliability",
    ),
    "learn.fusion": ("disagreement", "double_fault", "mean_class_accuracy", "temperature"),
    "learn.image_quality": ("mean_image_error", "psnr", "quality", "squared_error", "ssim"),
    "learn.orientation": ("centre_rule", "centres", "predicted_by_class"),
    "nets.variational": (
        *("active_units", "gaussian_elbo", "importance_bound", "kl_divergence", "knee"),
        "log_normal",
    ),
}


@pytest.mark.parametrize("module", STATED)
def test_a_metric_states_its_convention_once(module):
    for name in STATED[module]:
        found = importlib.import_module(f"fewlabels.{module}")
        for part in name.split("."):
            found = getattr(found, part)
        assert (found.__doc__ or "").count("Convention: ") == 1, name


# Classes


TIED = np.array([0.2, 0.2, 0.5, 0.5, 0.5, 0.8, 0.8])
TRUTH = np.array([0, 1, 0, 0, 1, 1, 0])


def test_ties_count_half_in_the_area_under_the_curve():
    pairs = [(p, n) for p in TIED[TRUTH == 1] for n in TIED[TRUTH == 0]]
    half = np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs])
    found = evaluation.evaluate(np.stack([1 - TIED, TIED], axis=1), TRUTH)["auc"]
    assert found == pytest.approx(half)
    assert found != pytest.approx(np.mean([p >= n for p, n in pairs]))


def test_macro_averages_leave_out_what_neither_occurs_nor_is_predicted():
    predicted, labels = np.array([0, 0, 2, 2, 3]), np.array([0, 2, 2, 2, 0])
    found = evaluation.of_classes(predicted, labels, 6)
    each = []
    for k in (0, 2, 3):
        hit = ((predicted == k) & (labels == k)).sum()
        precision = hit / max(1, (predicted == k).sum())
        recall = hit / max(1, (labels == k).sum())
        each.append((precision, recall, 2 * precision * recall / max(1e-9, precision + recall)))
    precision, recall, f1 = np.mean(each, axis=0)
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    # The mean of the classes' F1, and not the F1 of the mean precision and recall.
    assert found["f1"] == pytest.approx(f1)
    assert found["f1"] != pytest.approx(2 * precision * recall / (precision + recall))
    # Of the labels' classes alone: 0 and 2.
    assert found["mean_class_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_kappa_is_unweighted():
    predicted, labels = np.array([0, 1, 2, 2, 0, 1]), np.array([0, 2, 2, 0, 0, 1])
    agreed = (predicted == labels).mean()
    chance = sum((predicted == k).mean() * (labels == k).mean() for k in range(3))
    found = evaluation.of_classes(predicted, labels, 3)["cohen_kappa"]
    assert found == pytest.approx((agreed - chance) / (1 - chance))
    assert found != pytest.approx(metrics.cohen_kappa_score(labels, predicted, weights="linear"))


def test_calibration_error_closes_its_bins_on_the_right_and_weighs_them():
    # 0.6 is the right end of the ninth of 15 bins; those above and most below are empty.
    top = np.array([0.6, 0.6, 0.61, 0.55, 0.9])
    labels = np.array([0, 1, 0, 1, 0])
    p = np.stack([top, 1 - top], axis=1)

    def binned(side):
        place = np.digitize(top, np.arange(1, 15) / 15, right=side == "right")
        gaps = [
            (abs((labels[place == b] == 0).mean() - top[place == b].mean()), (place == b).mean())
            for b in np.unique(place)
        ]
        return gaps

    weighed = {side: sum(g * w for g, w in binned(side)) for side in ("left", "right")}
    for found in (
        evaluation.calibration_error(p, labels),
        evaluation.evaluate(p, labels)["calibration_error"],
    ):
        assert found == pytest.approx(weighed["right"])
        assert found != pytest.approx(weighed["left"])
        assert found != pytest.approx(np.mean([g for g, _ in binned("right")]))


def test_logarithms_are_natural_and_answers_the_first_in_a_tie():
    p = np.array([[0.5, 0.5], [0.25, 0.75]])
    found = evaluation.evaluate(p, np.array([0, 0]))
    assert found["nll"] == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)
    assert found["accuracy"] == 0.5  # A fraction; the tie names class 0.
    logits = torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    truth = torch.tensor([0, 0])
    assert measured.accuracy(logits, truth) == 0.5
    lost = special.logsumexp(logits.numpy(), axis=1) - logits[:, 0].numpy()
    assert measured.validation(logits, truth)["valid_loss"] == pytest.approx(lost.mean())


def test_true_classes_stand_in_rows_and_the_first_wrong_class_wins():
    predicted, labels = np.array([1, 1, 0, 2]), np.array([0, 0, 1, 2])
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (labels, predicted), 1)
    assert np.array_equal(evaluation.confusion(predicted, labels, 3), counts)
    assert not np.array_equal(counts, counts.T)
    one = np.array([0])
    found = evaluation.mistakes([np.array([2]), np.array([1])], [one, one], np.array([0]), 3)
    assert found["taken_for"].tolist() == [1]


def test_pairs_of_classifiers_are_counted_over_all_images():
    first, second, truth = np.array([0, 1, 2, 0]), np.array([0, 1, 1, 1]), np.array([0, 0, 0, 0])
    assert fusion.disagreement(first, second) == 2 / 4
    # Both are wrong on the second and third, there with different answers.
    assert fusion.double_fault(first, second, truth) == 2 / 4
    p = np.eye(3)[[0, 0, 1]]
    assert fusion.mean_class_accuracy(p, np.array([0, 1, 1])) == (1 + 1 / 2) / 2


def test_a_temperature_divides():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    labels = (special.softmax(logits, axis=1).cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    sure = special.softmax(2 * logits, axis=1)
    assert fusion.temperature(sure, labels) == pytest.approx(2, rel=0.1)


def test_thresholds_lie_half_way_and_the_score_has_to_be_above():
    scores, labels = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0, 0, 1, 1])
    assert chest_xray.best_threshold(scores, labels) == 3.0
    # 0.5 and 2.5 are equally good.
    assert chest_xray.best_threshold(np.arange(4.0), np.array([0, 1, 0, 1])) == 2.5
    valid, test = torch.tensor([[0.0, 1.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.1]])
    found = chest_xray.moved_threshold(valid, torch.tensor([0, 1]), test, torch.tensor([0, 1]))
    assert found["threshold"] == 2.0 and found["moved_accuracy"] == 1.0


def test_sensitivity_and_specificity_are_the_recalls():
    logits, labels = torch.tensor([[0.0, 1], [0, 1], [1, 0], [0, 1]]), torch.tensor([0, 1, 1, 1])
    found = chest_xray.scores(logits, labels, ("NORMAL", "PNEUMONIA"))
    negatives, false, missed, positives = metrics.confusion_matrix(labels, logits.argmax(1)).ravel()
    assert found["recall_pneumonia"] == positives / (positives + missed)
    assert found["recall_normal"] == negatives / (negatives + false)


# Predictions that records keep


def rows(predicted, **more):
    record = SimpleNamespace(predictions={"classes": np.array(predicted)})
    return pd.DataFrame({"record": [record], "draw": [0], "kind": ["k"], "name": ["n"]} | more)


def test_an_absent_class_has_no_recall_and_a_large_one_weighs_more():
    truth = np.array([0, 0, 0, 1])
    found = rows([0, 1, 0, 0])
    recalled = predictions.recalls(found, truth, ["a", "b", "c"])
    assert recalled["a"].item() == pytest.approx(2 / 3)
    assert np.isnan(recalled["c"].item())
    # One of three and one of one: two of four images, not the mean of the classes.
    assert predictions.confused(found, truth, 0, 1).item() == 1 / 2
    assert np.isnan(predictions.hits(found, truth, {"none": []})["none"].item())


def test_only_classes_with_a_new_image_are_averaged(monkeypatch):
    truth, new = torch.tensor([0, 0, 1, 2]), np.array([True, True, False, True])
    whole = SimpleNamespace(test=SimpleNamespace(labels=truth))
    monkeypatch.setattr(ssl, "new_images", lambda name: new)
    monkeypatch.setattr(data, "load", lambda name: whole)
    found = ssl.on_new_images("any", np.array([0, 1, 1, 2]))
    assert found["mean_class_accuracy_new"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["accuracy_new"] == pytest.approx(2 / 3)


def test_a_curve_is_rough_by_absolute_distances_in_its_later_half():
    curve = [5.0, 0.0, 3.0, 1.0, 2.0]  # The later half of five points has three.
    assert roughness(curve) == pytest.approx(abs(1 - (3 + 2) / 2))


def test_variances_have_one_degree_less():
    values = np.array([[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]])
    assert variance_components(values)["draw"] == pytest.approx(np.var([1, 4], ddof=1))


# Images


def test_squared_errors_are_means_over_pixels_and_channels():
    images, originals = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    images[0, 0] = 0.3
    images[1] = 0.6
    errors = image_quality.squared_error(images, originals)
    assert errors.tolist() == pytest.approx([0.09 / 3, 0.36])
    found = image_quality.quality(images, originals)
    assert found["psnr"] == pytest.approx(np.mean(-10 * np.log10([0.03, 0.36])), abs=1e-5)
    assert found["psnr_pooled"] == pytest.approx(-10 * np.log10((0.03 + 0.36) / 2), abs=1e-5)


def test_the_mean_image_is_not_rounded():
    train = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1, 1)
    assert image_quality.mean_image_error(train, train) == pytest.approx((0.5 / 255) ** 2)


def test_deviations_of_channels_have_n_and_those_of_corners_one_less():
    images = torch.randint(256, (2, 3, 12, 12), dtype=torch.uint8)
    _, deviation = data.channel_statistics(images)
    pixels = images.transpose(0, 1).flatten(1).double().numpy() / 255
    assert deviation.numpy() == pytest.approx(pixels.std(axis=1), abs=1e-6)
    y, x = (np.arange(12) + 0.5)[:, None] / 6 - 1, (np.arange(12) + 0.5) / 6 - 1
    corner = (y**2 + x**2 > 1) & (y < 0) & (x < 0)
    found = corners.corner_colours(images)[0, 3]  # red, first corner: three means come before
    own = images[0, 0].numpy()[corner] / 255
    assert found.item() == pytest.approx(own.std(ddof=1))
    assert found.item() != pytest.approx(own.std())


def test_the_limits_of_black_white_and_near_are_included():
    images = torch.stack([torch.full((3, 8, 8), 10), torch.full((3, 8, 8), 245)]).to(torch.uint8)
    assert corners.borders(images).tolist() == [[1, 0], [0, 1]]
    assert corners.borders(images + torch.tensor([1, 0]).view(2, 1, 1, 1)).tolist()[0] == [0, 0]
    apart = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    apart[1, 0] = 6  # One channel of three: the root of 36 / 3.
    distance = np.sqrt(((apart[0].double() - apart[1].double()).numpy() ** 2).mean())
    found = duplicates.near({"all": apart}, limit=distance + 1e-6)
    assert found["distance"].tolist() == pytest.approx([np.sqrt(12)])
    assert duplicates.near({"all": apart}, limit=3.4).empty


def test_correlations_are_pearsons():
    torch.manual_seed(0)
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    images[1] = images[0] // 2 + 40  # Darker and flatter: the same to a correlation.
    images[1, :, ::7] = 90
    grey = images.double().mean(dim=1).flatten(1).numpy()
    (found,) = duplicates.twins(images).query("not mirrored")["correlation"]
    assert found == pytest.approx(np.corrcoef(grey)[0, 1], abs=1e-5)
    slope = torch.arange(28, dtype=torch.uint8).expand(1, 1, 28, 28)
    # The same but for brightness and contrast, however it is cut.
    assert xray_questions.correlations(slope, 5 * slope + 60).item() == pytest.approx(1, abs=1e-3)
    flat = torch.full((1, 1, 28, 28), 7, dtype=torch.uint8)
    assert xray_questions.correlations(slope, flat).item() == 0


def test_shares_of_maps_are_averaged_over_images():
    maps = torch.zeros(3, 1, 7, 7)
    maps[0, 0, 0, 0], maps[1, 0, 3, 3], maps[1, 0, 0, 0] = 1.0, 90.0, 10.0
    # Not 11 of 101; the third image has nothing to share.
    assert xray_questions.outside(maps) == pytest.approx((1 + 0.1) / 2)


@pytest.mark.parametrize("side", [4, 5])
def test_the_centre_is_that_of_scipy_from_the_middle(side):
    image = torch.randint(1, 9, (1, 1, side, side))
    down, right = ndimage.center_of_mass(image[0, 0].numpy())
    middle = (side - 1) / 2
    assert orientation.centres(image)[0].tolist() == pytest.approx([right - middle, down - middle])


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_turns_are_counted_by_class_and_over_all_four():
    truth = np.array([0, 2])
    predicted = np.array([0, 1, 2, 0, 0, 0, 0, 0])
    found = orientation.predicted_by_class(predicted, truth)
    assert found[[0, 2]].tolist() == [3 / 4, 1 / 4] and np.isnan(found[1])
    pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    pixels[..., 0, 1:3] = 9  # Mass above the middle: each turn has a place of its own.
    split = Split(pixels, torch.zeros(2, dtype=torch.int64))
    assert orientation.centre_rule(SimpleNamespace(train=split, test=split)) == 1.0


# Angles and equivariance


def test_angles_go_the_short_way_round_only_where_they_wrap():
    a, b = torch.tensor([350.0, -170.0, 725.0, 90.0]), torch.tensor([10.0, 175.0, 0.0, -90.0])
    turned = np.angle(np.exp(1j * np.deg2rad((a - b).numpy())), deg=True)
    assert angles.difference(a, b).numpy() == pytest.approx(np.abs(turned), abs=1e-3)
    assert angles.difference(a, b, wraps=False).tolist() == [340, 345, 725, 180]
    outputs, degrees = torch.tensor([[1.0]]), torch.tensor([-170.0])
    number = angles.Number(mean=0.0, deviation=100.0, wraps=True)
    # 270 degrees apart on the line: squared deviations, whatever the short way is.
    assert number.losses(outputs, degrees).item() == pytest.approx(2.7**2)
    assert number.errors(outputs, degrees).item() == pytest.approx(90)


def test_the_likelihood_of_an_angle_is_per_radian():
    outputs, degrees = torch.tensor([[30.0, 0.0]], dtype=torch.float64), torch.tensor([5.0])
    found = angles.Circle().losses(outputs, degrees.double()).item()
    assert found == pytest.approx(-stats.vonmises.logpdf(np.deg2rad(5), 30))
    assert found < 0


def test_the_median_error_is_the_lower_one_and_90_is_not_beyond_90():
    errors = torch.tensor([1.0, 2.0, 90.0, 91.0])
    seen = SimpleNamespace(degrees=torch.zeros(4), score_degrees=torch.zeros(4))
    run = SimpleNamespace(images=4, span=180)
    head = SimpleNamespace(loss=lambda outputs, truth: torch.zeros(()))
    found = angle_runs.AngleRegression._metrics(run, head, errors, errors, seen)
    assert found["median_error"] == 2.0
    assert found["beyond_90"] == 1 / 4


def test_equivariance_errors_have_one_scale_an_image():
    difference = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    reference = torch.tensor([[[0.0, 10.0], [10.0, 0.0]]])
    errors = equivariance.ErrorMap(difference, reference)
    assert errors.over().item() == pytest.approx(np.sqrt(2) / np.sqrt(200))
    assert errors.relative[0, 0, 0].item() == pytest.approx(1 / np.sqrt(200 / 4))


# Variational autoencoders


def test_terms_are_sums_over_units_and_pixels_in_nats():
    mean, log_variance = torch.tensor([[1.0, -0.5]]), torch.tensor([[0.2, -0.3]])
    deviation = np.exp(log_variance.numpy() / 2)
    points = np.linspace(-12, 12, 200_001)
    parts = [
        np.trapezoid(q * (np.log(q.clip(min=1e-300)) - stats.norm.logpdf(points)), points)
        for q in (stats.norm.pdf(points, m, s) for m, s in zip(mean[0], deviation[0], strict=True))
    ]
    assert variational.kl_divergence(mean, log_variance).item() == pytest.approx(sum(parts))
    logits, binary = torch.randn(2, 1, 3, 3), torch.randint(2, (2, 1, 3, 3)).float()
    theirs = stats.bernoulli.logpmf(binary, special.expit(logits.numpy())).reshape(2, -1)
    assert vae.log_bernoulli(logits, binary).numpy() == pytest.approx(theirs.sum(axis=1), rel=1e-4)
    image, variance = np.array([0.2, 0.7, 0.4]), 0.05
    decoded = np.array([0.1, 0.9, 0.4])
    density = stats.norm.logpdf(image, decoded, np.sqrt(variance)).sum()
    found = variational.gaussian_elbo(((image - decoded) ** 2).mean(), 1.5, variance, 3)
    assert found == pytest.approx(density - 1.5)


def test_the_bound_is_the_logarithm_of_the_mean_weight():
    weights = torch.tensor([[0.0], [-3.0]])
    found = variational.importance_bound(weights).item()
    assert found == pytest.approx(np.log((1 + np.exp(-3)) / 2))
    assert found != pytest.approx(-1.5)


def test_a_unit_is_active_by_the_unbiased_variance():
    means = torch.tensor([[0.0], [0.15]])  # 0.01125 with N - 1, 0.0056 with N
    assert variational.active_units(means) == 1


def test_a_knee_is_the_first_of_equal_ones_on_scaled_axes():
    assert variational.knee([0, 1, 2, 100], [100, 1, 1, 0]) == 1
    assert variational.knee([0, 1, 2, 4], [4, 1, 0, 0]) == 1


class Doubled:
    """A network whose decoded images are half as bright, with posterior means of its own."""

    def __call__(self, images):
        mean = torch.tensor([[1.0, 0.0]]).expand(len(images), 2)
        return images / 2, mean, torch.zeros_like(mean)

    def encode(self, images):
        return images.flatten(1)[:, :1], None


def test_rate_is_an_images_and_distortion_a_pixels():
    images = torch.tensor([255, 0], dtype=torch.uint8).view(1, 1, 1, 2)
    found = vae.rate_and_distortion(Doubled(), images)
    assert found == pytest.approx({"mse": 0.5**2 / 2, "kl": 0.5})


def test_neighbours_have_a_vote_each_and_the_first_class_a_tie():
    """Where votes weigh by distance, a neighbour at distance 0 decides alone."""
    shades = torch.tensor([100, 110, 120, 130, 140], dtype=torch.uint8).view(5, 1, 1, 1)
    train = Split(shades, torch.tensor([3, 1, 1, 1, 0]))
    means, truth = vae.latent_means(Doubled(), shades[:2]), torch.tensor([1, 1])
    assert vae.plane_metrics(Doubled(), train, means, truth)["knn_accuracy"] == 1
    tied = Split(shades, torch.tensor([3, 3, 1, 1, 0]))
    assert vae.plane_metrics(Doubled(), tied, means, truth)["knn_accuracy"] == 1


def test_nine_tenths_are_confident():
    found = vae.confidence(torch.tensor([[0.9, 0.1], [0.89, 0.11]]))
    assert found["confident"] == 0.5
