"""Chapter 7's tables and texts, as the notebook calls them."""

import math

import numpy as np
import pandas as pd
from IPython.display import Markdown

from fewlabels import comparisons, data, published, tables
from fewlabels.chapters.autoencoders_vae import claims, planning, results
from fewlabels.chapters.autoencoders_vae.planning import (
    LABELS,
    NAME,
    SHEET_EPOCHS,
    SHEET_WEIGHT,
    Settings,
)
from fewlabels.chapters.rotnet_mnist import results as chapter_one
from fewlabels.data import ImageData
from fewlabels.experiments.denoising import REPORT_NOISE, TEST_NOISE
from fewlabels.experiments.vae import CONFIDENT, NEIGHBOURS, PIXELS
from fewlabels.models.autoencoders import DenoisingAutoencoder, sheet_vae
from fewlabels.statistics import mean_difference, mean_interval
from fewlabels.tables import Table, number, percent
from fewlabels.variational import decoder_variance
from fewlabels.verdicts import direction

REFERENCE_ELBO = 137
"""Minus the ELBO in nats that two latent dimensions are known to reach on binarised MNIST."""
REFERENCE_KNN = 82
"""The kNN accuracy in such a plane, percent, about."""
NATS_PER_BIT = math.log(2)
CODE, FLOOR = "denoising code, linear probe", "untrained code, linear probe"
CHAPTER_ONE = (
    ("report", "cnn", "scratch"),
    ("report", "rotnet", "frozen"),
    ("report", "rotnet, linear probe", "frozen"),
    ("report", "random, linear probe", "frozen"),
    ("tuned", "cnn", "scratch"),
    ("tuned", "rotnet, linear probe", "frozen"),
    ("tuned", "random, linear probe", "frozen"),
    ("tuned", "rotnet", "fine-tuned"),
    ("tuned", "fixmatch", "scratch"),
)
"""Protocol, method and backbone of chapter 1's rows beside the probes."""


def summary(runs: pd.DataFrame, settings: Settings, images: ImageData) -> str:
    """The chapter in one paragraph, every figure from the runs."""
    at = claims.AT_TEST
    rival = results.best_filter(runs, TEST_NOISE)
    sheet = results.sheet_by_seed(runs, at)
    gain = results.over_common(sheet, results.by_seed(runs, rival, at))
    levels = {results.SHEET: number(mean_interval([*sheet.values()]), 1)}
    for name in (results.NOISY, results.UNET):
        values = [*results.by_seed(runs, name, at).values()]
        levels[name] = number(mean_interval(values), 1)
    knee = results.knee_weight(runs)
    best, printed = (results.at_weight(runs, weight) for weight in (knee, SHEET_WEIGHT))
    knn = {
        weight: comparisons.fraction(rows, "knn_accuracy")
        for weight, rows in ((knee, best), (SHEET_WEIGHT, printed))
    }
    flat = printed["active_units"] == 0
    likely = results.best_weight(runs, "elbo_own")
    own = results.probes(runs)
    code = comparisons.fraction(own.query("method == @CODE"), "accuracy")
    learned = chapter_one.paired(own, (CODE, "frozen"), (FLOOR, "frozen"))
    return (
        "::: {.callout-important}\n## In short\n\n"
        f"Trained on noise {REPORT_NOISE:g}, the sheet's auto-encoder restores test images with "
        f"noise {TEST_NOISE:g} from {levels[results.NOISY]} to **{levels[results.SHEET]} dB** of "
        f"PSNR (n = {gain.n} seeds), {number(gain, 1, sign=True)} dB against the best classical "
        f"filter tried ({rival}). A small U-Net trained on mixed noise reaches "
        f"{levels[results.UNET]} dB. In the variational auto-encoder the printed weight "
        f"{SHEET_WEIGHT:g} of the KL term collapses the plane {_in_seeds(flat.sum(), len(flat))} "
        f"(kNN accuracy {percent(knn[SHEET_WEIGHT])}%): with a mean over pixels it "
        f"stands for a decoder noise of {math.sqrt(decoder_variance(1, PIXELS)):.1f} times the "
        "range of the pixels. "
        f"The trade-off curve has its knee at weight {knee:g}, where the plane tells "
        f"{percent(knn[knee])}% of the digits and a classifier reads "
        f"{percent(comparisons.fraction(best, 'confident'))}% of the decoded grid with confidence "
        f"and finds {number(comparisons.mean(best, 'digits'))} of ten digits in it; the highest "
        f"likelihood is at {likely:g}. With {LABELS} labels, a linear probe on the denoising code "
        f"reads {percent(code)}% of the digits, {percent(learned, sign=True)} points "
        f"against the same network untrained. Data: {images.title}.\n:::"
    )


def _in_seeds(count: int, seeds: int) -> str:
    """How many of the seeds, in words that suit a single one."""
    if seeds == 1:
        return "in the one seed that was run" if count else "not in the one seed that was run"
    return f"in **{count} of {seeds}** seeds"


# The networks


def networks_table() -> Table:
    """Layers and parameters of the sheet's networks, counted from the networks themselves."""
    rows = []
    denoiser, vae = DenoisingAutoencoder(), sheet_vae()
    parts = (
        ("denoising encoder", denoiser.encoder, "32 x 7 x 7"),
        ("denoising decoder", denoiser.decoder, "1 x 28 x 28"),
        ("VAE encoder, to mu and log_var", vae.encoder, "2 and 2"),
        ("VAE decoder", vae.decoder, "1 x 28 x 28"),
    )
    for name, part, output in parts:
        count = sum(p.numel() for p in part.parameters())
        rows.append({"Part": name, "Output": output, "Parameters": count})
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-networks",
        "The sheet's networks. The denoising code, the sheet's question, is a tensor of "
        f"32 x 7 x 7 = {32 * 49:,} numbers, {32 * 49 / PIXELS:g} times as many as the image has "
        "pixels; the code of the VAE has two.",
    )


# Denoising


def denoising_table(runs: pd.DataFrame, source: str, settings: Settings) -> Table:
    """PSNR and SSIM at the two levels of the sheet, by method."""
    rows = []
    groups = results.denoisers(runs).groupby("name", sort=False)
    order = sorted(groups, key=lambda item: item[1][claims.AT_TEST].mean())
    for name, group in order:
        row = {"Method": name, "n": str(len(group))}
        for level in (REPORT_NOISE, TEST_NOISE):
            row[f"PSNR, {level:g}"] = number(comparisons.mean(group, f"psnr_{level:g}"), 2)
            row[f"SSIM, {level:g}"] = number(float(group[f"ssim_{level:g}"].mean()), 2)
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-denoising",
        f"Restoring {settings.test_images:,} test images of {source} at noise {REPORT_NOISE:g} and "
        f"{TEST_NOISE:g}: PSNR in dB, mean over images of each image's own, mean over n seeds (of "
        "network and noise; for filters of noise) with 95% interval; "
        f"SSIM, mean over the same seeds. {_trained(settings)} Filters are told the "
        "level, networks are not.",
    )


def halves_line(runs: pd.DataFrame) -> str:
    """What the second half of the training adds at the two levels, on held-out images."""
    rows = results.denoisers(runs).query("name == @results.SHEET")
    gains = {}
    for level in (REPORT_NOISE, TEST_NOISE):
        curves = [record.curves[f"valid_psnr_{level:g}"] for record in rows["record"]]
        late = [curve[-1] - curve[(len(curve) - 1) // 2] for curve in curves]
        gains[level] = number(mean_difference(late), 2, sign=True)
    return (
        f"The second half of this training changes the PSNR of held-out images by "
        f"{gains[REPORT_NOISE]} dB at noise {REPORT_NOISE:g} and by {gains[TEST_NOISE]} dB at "
        f"{TEST_NOISE:g} (n = {len(rows)}), which the network has not seen."
    )


def _trained(settings: Settings) -> str:
    """The epochs behind the networks' figures."""
    return (
        f"Epochs over at most {settings.denoising_images:,} images: {settings.denoising_epochs} in "
        f"batches of {planning.DENOISING_BATCH} for the sheet's network (the sheet: "
        f"{SHEET_EPOCHS['denoising']} over 60,000), {settings.unet_epochs} in batches of "
        f"{planning.UNET_BATCH} for the U-Net."
    )


METRICS = {
    "psnr": ("PSNR in dB, mean over images of each image's own", 1),
    "psnr_pooled": ("PSNR in dB of the mean squared error over all images", 1),
    "mse": ("mean squared error, times 1,000", 1),
    "ssim": ("SSIM", 2),
}


def levels_table(runs: pd.DataFrame, metric: str, settings: Settings, source: str) -> Table:
    """One metric at every level of noise, by method."""
    text, decimals = METRICS[metric]
    scale = 1000 if metric == "mse" else 1
    frame = results.over_levels(runs, metric, settings.levels)
    wide = frame.pivot(index="name", columns="level", values="mean").loc[frame["name"].unique()]
    wide = (scale * wide).sort_values(TEST_NOISE, ascending=metric != "mse")
    cells = wide.map(lambda value: number(value, decimals)).rename(columns=lambda x: f"{x:g}")
    half = scale * ((frame["high"] - frame["low"]) / 2).max()
    n = "n = " + " or ".join(str(n) for n in sorted(set(frame["n"])))
    shown = cells.rename_axis(None).reset_index(names="Method").rename_axis(None, axis=1)
    width = "not known from one run" if math.isnan(half) else f"at most {half:.2g}"
    return tables.show(
        shown,
        f"tbl-ae-{metric.replace('_', '-')}",
        f"{text[0].upper()}{text[1:]}, by standard deviation of the noise: means over seeds ({n}) "
        f"on {settings.test_images:,} test images of {source}; half the width of the 95% interval "
        f"is {width}.",
    )


def losses_table(runs: pd.DataFrame, source: str, settings: Settings) -> Table:
    """A2: MSE with a linear output less another loss, in PSNR and SSIM at both levels."""
    rows, tests = [], []
    others = results.OTHER_LOSSES | {"MSE, sigmoid": results.SIGMOID}
    for loss, name in others.items():
        for level in (REPORT_NOISE, TEST_NOISE):
            row = {"MSE, linear less": f"{loss}, noise {level:g}"}
            for metric, heading, decimals in (
                ("psnr", "PSNR, dB", 2),
                ("ssim", "SSIM", 3),
            ):
                found = results.paired(runs, results.SHEET, name, f"{metric}_{level:g}")
                row[heading] = number(found, decimals, sign=True)
                if metric == "psnr":
                    tests.append(found)
            rows.append(row)
    frame = pd.DataFrame(rows).assign(
        n=[str(each.n) for each in tests],
        **{"p (Holm)": [tables.p_value(p) for p in tables.corrected(tests)]},
    )
    return tables.show(
        frame,
        "tbl-ae-losses",
        f"The sheet's network and noise under several losses and last activations, {source}: "
        "differences paired by seed, mean over the n seeds both have with 95% interval and, for "
        "PSNR, the two-sided t test with Holm's correction over the rows of three seeds or more. "
        f"{_trained(settings)}",
    )


def sigmoid_line(runs: pd.DataFrame, images: ImageData) -> str:
    """What becomes of MSE with a sigmoid."""
    stuck, seeds = results.black(runs, results.SIGMOID)
    error = float((images.test.images.float() / 255).square().mean())
    found = mean_interval([*results.by_seed(runs, results.SIGMOID, f"mse_{TEST_NOISE:g}").values()])
    return (
        "With a sigmoid as its last activation and MSE as its loss, the sheet's network ends on "
        f"black images {_in_seeds(stuck, seeds)}: its error, {number(found, 3)}, is that of "
        f"a black image ({error:.3f} on all test images), whatever the noise. Most pixels are "
        "black, so the first steps of Adam drive all outputs down together; there the sigmoid is "
        "flat, and since the gradient of the squared error has the sigmoid's slope as a factor, "
        "nothing drives them up again. The gradient of the cross-entropy lacks that factor, and a "
        "linear output has no flat part. The same network built in Keras does the same in its "
        "first hundred steps (a check by hand, not a record)."
    )


def long_denoising_line(runs: pd.DataFrame, settings: Settings) -> str:
    """What the sheet's 20 epochs give, where they were run."""
    long = results.long_denoisers(runs)
    own = results.by_seed(runs, results.SHEET, claims.AT_TEST)
    full = SHEET_EPOCHS["denoising"]
    if long.empty and settings.denoising_epochs == full:
        return (
            f"Every figure of the sheet's network is of its {full} epochs, over at most "
            f"{settings.denoising_images:,} images (n = {len(own)})."
        )
    if long.empty:
        return (
            f"The sheet's {full} epochs were not run. Epochs behind every figure of its network: "
            f"{settings.denoising_epochs}, over at most {settings.denoising_images:,} images."
        )
    at = {
        level: number(comparisons.mean(long, f"psnr_{level:g}"), 2)
        for level in (REPORT_NOISE, TEST_NOISE)
    }
    short = {
        level: number(
            mean_interval([*results.by_seed(runs, results.SHEET, f"psnr_{level:g}").values()]), 2
        )
        for level in (REPORT_NOISE, TEST_NOISE)
    }
    return (
        f"With the sheet's {full} epochs its network reaches {at[REPORT_NOISE]} dB "
        f"at noise {REPORT_NOISE:g} and {at[TEST_NOISE]} dB at {TEST_NOISE:g} (n = {len(long)}), "
        f"with {settings.denoising_epochs}, as in the tables and figures, {short[REPORT_NOISE]} "
        f"and {short[TEST_NOISE]} dB (n = {len(own)})."
    )


# The code with few labels


def code_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """Probes at 100 labels, chapter 1's rows beside them, and paired differences."""
    own = results.probes(runs)
    first = results.chapter_one_digits(settings)
    rows = []
    for name, group in own.groupby("method", sort=False):
        difference = (
            None if name == CODE else chapter_one.paired(own, (CODE, "frozen"), (name, "frozen"))
        )
        rows.append(_code_row("7", name, group, difference))
    for protocol, method, backbone in CHAPTER_ONE:
        if first.empty:
            break
        chosen = first[
            (first["protocol"] == protocol)
            & (first["method"] == method)
            & (first["backbone"] == backbone)
        ]
        if len(chosen):
            both = pd.concat([own, chosen.assign(method="the other")])
            difference = chapter_one.paired(both, (CODE, "frozen"), ("the other", backbone))
            name = f"{chapter_one.named(method, backbone)}, {protocol}"
            rows.append(_code_row("1", name, chosen, difference))
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-code",
        f"Test accuracy at {LABELS} labels of {source}, %: mean with 95% interval; n: "
        "label draws, or networks that they start from; rows of chapter 1 are read from its "
        "records. Last column: the linear probe on the denoising code less the row, points, over "
        "the draws both have (the same labelled images).",
    )


def _code_row(chapter: str, name: str, group: pd.DataFrame, difference) -> dict[str, str]:
    own = comparisons.fraction(group, "accuracy")
    return {
        "Chapter": chapter,
        "Method": name,
        "n": str(own.n),
        "Accuracy": percent(own),
        "Code less this": tables.NO_FIGURE
        if difference is None
        else percent(difference, sign=True),
    }


def code_line(runs: pd.DataFrame) -> str:
    """Is the code any use? From the paired differences to pixels and to the untrained network."""
    own = results.probes(runs)
    against = {
        other: chapter_one.paired(own, (CODE, "frozen"), (other, "frozen"))
        for other in ("pixels, linear probe", FLOOR)
    }
    pixels, floor = (percent(each, sign=True) for each in against.values())
    learned = {
        "holds": "learning to denoise itself helps the probe",
        "opposite": "learning to denoise makes the code worse for the probe",
        "no difference": "learning to denoise adds or takes no more than the margin of a point",
        "undecided": "these runs cannot tell whether learning to denoise helps the probe",
        "not tested": "there are too few networks to say what learning adds",
    }[direction(against[FLOOR], +1, published.margins()["difference"]["margin"]).word]
    return (
        f"The linear probe on the denoising code differs by {pixels} points from one on pixels and "
        f"by **{floor}** points from one on the code of the same network before any training "
        f"(n = {against[FLOOR].n} denoising networks, each the mean of its draws): {learned}."
    )


# The variational auto-encoder


def nats_line() -> str:
    """What a weight means in nats."""
    variance = decoder_variance(1, PIXELS)
    return (
        f"The sheet's loss is the *mean* of the squared error over {PIXELS} pixels plus `coeff` "
        "times the KL divergence in nats. Divided by `coeff` it is, up to a constant, minus the "
        "ELBO of a decoder with Gaussian noise of variance $\\sigma^2$ on every pixel, "
        f"$\\frac{{{PIXELS}}}{{2\\sigma^2}}\\,\\mathrm{{MSE}} + \\mathrm{{KL}}$, with "
        f"$\\sigma^2 = {PIXELS // 2}\\,$`coeff`. Weight 1 therefore says that pixels, which "
        f"lie between 0 and 1, carry noise of standard deviation {math.sqrt(variance):.1f}: one "
        "nat of code has to save a mean squared error of 1, the largest there is. In units of a "
        f"decoder of unit variance, weight 1 is a beta of {variance:.0f}."
    )


def mean_image_error(images: ImageData) -> float:
    """Mean squared error of the mean training image on the test images: a decoder that knows
    nothing of its image."""
    mean = images.train.images.float().mean(dim=0) / 255
    return float((images.test.images.float() / 255 - mean).square().mean())


def weights_table(runs: pd.DataFrame, images: ImageData, source: str, settings: Settings) -> Table:
    """Per weight: the assumed noise, reconstruction, rate, ELBO."""
    rows = []
    for weight, group in results.planes(runs).groupby("weight"):
        rows.append(
            {
                "Weight": f"{weight:g}",
                "n": str(len(group)),
                "Sigma": number(math.sqrt(decoder_variance(weight, PIXELS)), 2),
                "MSE x 1,000": number(mean_interval(1000 * group["mse"])),
                "KL, nats": number(comparisons.mean(group, "kl"), 2),
                "ELBO": number(comparisons.mean(group, "elbo_own"), 0),
                "ELBO, best sigma": number(comparisons.mean(group, "elbo_best"), 0),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-weights",
        f"The sheet's VAE by the weight of the KL term, all test images of {source}, means over n "
        "seeds with 95% interval. Sigma: noise of the decoder that "
        "the weight stands for. ELBO in nats an image, of grey levels as a density (it may be "
        "positive), under that sigma and under the best one, whose square is the MSE. The mean "
        f"training image has an MSE x 1,000 of {1000 * mean_image_error(images):.1f}. "
        f"{_vae_trained(settings)}",
    )


def plane_table(runs: pd.DataFrame, source: str, settings: Settings) -> Table:
    """Per weight: what the plane is worth."""
    rows = []
    for weight, group in results.planes(runs).groupby("weight"):
        rows.append(
            {
                "Weight": f"{weight:g}",
                "n": str(len(group)),
                "Active units": number(comparisons.mean(group, "active_units")),
                "Collapsed": f"{(group['active_units'] == 0).sum()} of {len(group)}",
                "kNN, %": percent(comparisons.fraction(group, "knn_accuracy")),
                "Confident cells, %": percent(comparisons.fraction(group, "confident")),
                "Digits": number(comparisons.mean(group, "digits")),
            }
        )
    judge = runs[runs["kind"] == "reader"].iloc[0]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-plane",
        f"The latent plane by weight, {source}, means over n seeds with 95% interval. "
        "Collapsed: seeds without an active unit. kNN: test accuracy of the "
        f"{NEIGHBOURS} nearest posterior means of labelled training images. Confident cells of the "
        f"10 x 10 grid over [-3, 3]: a classifier's top probability is {CONFIDENT:g} or more; "
        "digits: how many different ones it finds in them. The classifier (accuracy "
        f"{percent(judge['accuracy'])}%) is as confident on {percent(judge['confident_real'])}% of "
        f"real test images and on {percent(judge['confident_blends'])}% of averages of two images "
        f"of different digits. {_vae_trained(settings)}",
    )


def _vae_trained(settings: Settings) -> str:
    return (
        f"Epochs over at most {settings.unlabelled:,} images: {settings.vae_epochs} (the sheet: "
        f"{SHEET_EPOCHS['vae']})."
    )


def long_table(runs: pd.DataFrame, source: str, settings: Settings):
    """More epochs, where they were run; otherwise a sentence that they were not."""
    long = results.long_planes(runs)
    epochs_of = {False: settings.vae_epochs, True: settings.long_epochs}
    if long.empty:
        return Markdown(f"More than {settings.vae_epochs} epochs were not run.")
    rows = []
    first = results.planes(runs).query("seed == 0")
    both = pd.concat([first[first["weight"].isin(long["weight"])], long])
    for row in both.sort_values(["weight", "long"]).itertuples():
        rows.append(
            {
                "Weight": f"{row.weight:g}",
                "Epochs": str(epochs_of[row.long]),
                "MSE x 1,000": number(1000 * row.mse),
                "KL, nats": number(row.kl, 2),
                "Active units": number(row.active_units, 0),
                "kNN, %": percent(row.knn_accuracy),
                "Confident cells, %": percent(row.confident),
                "Digits": number(row.digits, 0),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-long",
        f"More epochs for some weights, {source}: the first seed of each (n = 1, no interval). The "
        f"sheet trains for {SHEET_EPOCHS['vae']}.",
    )


def knee_line(runs: pd.DataFrame, settings: Settings) -> str:
    """The answer to the sheet's question for the best weight."""
    curve = results.rate_distortion(runs).set_index("weight")
    knee = results.knee_weight(runs)
    likely, readable = (
        results.best_weight(runs, metric) for metric in ("elbo_own", "knn_accuracy")
    )
    balance = curve["mse"].min() / decoder_variance(1, PIXELS)
    bits = curve.loc[knee, "kl"] / NATS_PER_BIT
    return (
        f"There is no single best weight but a curve. By this rule, both axes scaled to 0..1 and "
        "the point farthest below the chord of the ends, on held-out training images, the knee is "
        f"at weight **{knee:g}**: {number(float(curve.loc[knee, 'kl']), 1)} nats "
        f"({number(float(bits), 1)} bits) an image for an MSE of "
        f"{number(float(curve.loc[knee, 'mse']), 3)}. The rule depends on the range of weights "
        "that is scaled. A likelihood has no such freedom: the weight is right where the noise it "
        "assumes is the error that is made, MSE / "
        f"{PIXELS // 2}, about {balance:.0e} here; of the weights tried the highest ELBO is that "
        f"of {likely:g}. The highest mean kNN accuracy is that of {readable:g}."
    )


def bernoulli_table(runs: pd.DataFrame, source: str, settings: Settings) -> Table:
    """Bounds on the log likelihood of binarised images."""
    rows = []
    for latents, group in runs[runs["kind"] == "binary-vae"].groupby("latents"):
        rows.append(
            {
                "Latents": str(int(latents)),
                "n": str(len(group)),
                "Minus ELBO": number(mean_interval(-group["elbo"])),
                "Minus bound": number(mean_interval(-group["importance_bound"])),
                "KL": number(comparisons.mean(group, "kl")),
                "Active units": number(comparisons.mean(group, "active_units")),
                "kNN, %": percent(comparisons.fraction(group, "knn_accuracy")),
            }
        )
    rows.append(
        {
            "Latents": "2, reference",
            "n": tables.NO_FIGURE,
            "Minus ELBO": str(REFERENCE_ELBO),
            "kNN, %": str(REFERENCE_KNN),
        }
    )
    frame = pd.DataFrame(rows).fillna(tables.NO_FIGURE)
    return tables.show(
        frame,
        "tbl-ae-bernoulli",
        f"Dense VAEs with Bernoulli pixels, {source} binarised anew for every batch, the test "
        "images once for each seed: nats an image, means over n seeds with 95% interval. "
        "Minus bound: the importance-weighted bound with "
        f"{settings.importance_samples} draws an image. {settings.binary_epochs} epochs. The "
        "reference row holds figures to compare with, not our measurements.",
    )


# Size and reruns


def size_table(runs: pd.DataFrame) -> Table:
    """Parameters, steps and time of the networks; a row is one number of steps."""
    rows = []
    trained = runs[(runs["steps"] > 0) & (runs["kind"] != "code")]
    for (name, steps), group in trained.groupby(["name", "steps"], sort=False):
        record = group["record"].iloc[0]
        rows.append(
            {
                "Network": name,
                "Parameters": record.parameters["total"],
                "Steps": int(steps),
                "Batch": int(record.config["training"]["batch_size"]),
                "Seconds a run": float(group["seconds"].median()),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-size",
        "Parameters, training steps and median time of a run with its test, one thread each on a "
        "shared machine; a network that was trained for two lengths has a row for each.",
    )


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's means beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    book = Settings()
    planned, stored = planning.plan(book), planning.store(book)
    ours = results.frame(planned, [stored.get(run) for run in planned], set())
    shown = (("denoising", claims.AT_TEST, 1, 2), ("filter", claims.AT_TEST, 1, 2))
    rows = []
    for kind, metric, scale, decimals in (*shown, ("code", "accuracy", 100, 1)):
        yours = runs[
            (runs["kind"] == kind) & runs.get(metric, pd.Series(np.nan, runs.index)).notna()
        ]
        for name, group in yours.groupby("name", sort=False):
            row = {
                "Method": name,
                "Measure": metric.replace("_", " at noise "),
                "n": str(len(group)),
            }
            row["Your run"] = number(mean_interval(scale * group[metric]), decimals)
            if metric in ours:
                same = ours[ours["name"] == name][metric].dropna()
                book_mean = mean_interval(scale * same) if len(same) else None
                row["The book"] = number(book_mean, decimals)
            rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ae-yours",
        "Your run beside the book: PSNR in dB and accuracy in %, means with 95% interval. Yours is "
        f"measured on {data.load(settings.dataset).title}, the book's on {book.dataset.upper()}; "
        "settings differ as the profiles do.",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    first, second = SHEET_EPOCHS.values()
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "Everything, as printed here": f"fewlabels run {NAME} --profile full -p store cache",
        f"The same with the sheet's {first} and {second} epochs": (
            f"fewlabels run {NAME} --profile full -p store cache -p denoising_epochs {first} "
            f"-p long_denoising_seeds 0 -p vae_epochs {second}"
        ),
    }
