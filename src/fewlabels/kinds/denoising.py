"""Runs of chapter 7 on denoising: networks, classical filters, and probes on a network's code.

Protocol ``report`` is the sheet's: its network, noise of standard deviation 0.2 drawn once before
training, noise 0.4 in the test, both clipped to 0..1, Adam at Keras' default rate, batches of 32.
Protocol ``tuned`` is ours: noise drawn anew for every batch, also of mixed strength, and a U-Net.

Noise on test images is drawn from the seed and the level alone, so that every method meets the same
noise and differences are paired. The last training images are held out: learning curves and the
filters' settings come from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning.fabric import Fabric
from scipy.ndimage import median_filter
from skimage.restoration import denoise_bilateral, denoise_nl_means
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.data import ImageData, Split
from fewlabels.errors import UserError
from fewlabels.kinds.measured import classified, placed, probed, size
from fewlabels.learn.image_quality import psnr, quality, squared_error, ssim
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.autoencoders import DenoisingAutoencoder, SmallUNet
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store

NETWORKS = ("sheet", "u-net")
OUTPUTS = ("linear", "sigmoid")
LOSSES = {"mse": F.mse_loss, "bce": F.binary_cross_entropy, "l1": F.l1_loss}
NOISES = ("fixed", "fresh", "mixed")
FILTERS = ("none", "median", "bilateral", "non-local means")
READOUTS = ("linear probe", "kNN")
REPORT_NOISE, TEST_NOISE = 0.2, 0.4
HELD_OUT = 1000
"""Training images kept for learning curves and settings, at most a sixth of them."""
PICTURES = 5
"""Restored images that the first seed keeps, at each of ``PICTURED`` levels."""
PICTURED = (0.2, 0.4, 0.8)
KEPT_CODES = 3
_CODES: dict[str, Tensor] = {}
"""Codes of the test images by the id of the training, in this process."""


def noised(images: Tensor, level: float | Tensor, generator: torch.Generator | None = None):
    """``images`` in 0..1 plus Gaussian noise of standard deviation ``level``, clipped to 0..1.

    level: one for all, or [N, 1, 1, 1], one for each.
    """
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return (images + level * noise).clamp(0, 1)


def paired_noise(images: Tensor, level: float, seed: int) -> Tensor:
    """Images with the noise that every method meets at this level and seed."""
    # Drawn on the CPU, where filters work: a card's generator gives other numbers.
    generator = torch.Generator().manual_seed(1000 * seed + round(100 * level))
    return noised(images.cpu(), level, generator).to(images.device)


def train_and_held_out(images: ImageData) -> tuple[Split, Split]:
    """All training images but the last, and the last ``HELD_OUT`` of them."""
    split = len(images.train.labels) - min(HELD_OUT, len(images.train.labels) // 6)
    return (
        Split(images.train.images[:split], images.train.labels[:split]),
        Split(images.train.images[split:], images.train.labels[split:]),
    )


def spread_out(images: Tensor, count: int) -> Tensor:
    """``count`` images at even distances, in 0..1; all of them where there are not more."""
    return images[:: max(1, len(images) // count)][:count].float() / 255


@dataclass(frozen=True)
class DenoisingTraining(Experiment, kind="denoising", recipe=1):
    """Train a network to restore images, and score it at every level of noise."""

    network: str
    loss: str
    output: str
    """Last activation: ``sigmoid``, or ``linear`` with images clipped to 0..1 when scored."""
    noise: str
    """``fixed``: drawn once, before training. ``fresh``: anew for every batch. ``mixed``: anew, and
    with a level of its own for every image, uniform in 0..level."""
    level: float
    """Standard deviation of the noise in training, pixels being in 0..1."""
    seed: int
    training: Recipe
    """Without steps the network stays untrained and is not scored: the floor for its code."""
    levels: tuple[float, ...]
    """Standard deviations of the noise in the test."""
    test_images: int
    unlabelled: int = 60_000
    """Training images used, at most."""
    similarity: bool = field(default=False, metadata=ADDED)
    """Measure structural similarity as well, see `scored`. Records from before this setting hold
    another one, ``ssim_0.2`` and so on, over reflected borders, which nothing reads any more."""

    def __post_init__(self):
        config.one_of("network", self.network, NETWORKS)
        config.one_of("loss", self.loss, LOSSES)
        config.one_of("output", self.output, OUTPUTS)
        if self.loss == "bce" and self.output != "sigmoid":
            raise UserError(f"output is {self.output!r}; allowed with the loss bce: sigmoid")
        if self.network == "u-net" and self.output != "linear":
            raise UserError(f"output is {self.output!r}; allowed with the u-net: linear")
        config.one_of("noise", self.noise, NOISES)
        config.positive("level", self.level)
        config.whole("seed", self.seed, 0)
        config.whole("test_images", self.test_images, PICTURES)
        config.whole("unlabelled", self.unlabelled, 10)

    def cell(self) -> dict[str, str | int]:
        steps = f"{self.training.steps} steps" if self.training.steps else "untrained"
        sheet = self.network == "sheet" and self.noise == "fixed"
        noise = f"{self.noise} noise {self.level:g}"
        method = f"{self.network}, {self.loss}, {self.output}, {noise}, {steps}"
        return self.row(0, method, "scratch", "report" if sheet else "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        images = data.load(self.dataset)
        train, held = (split.to(fabric.device) for split in train_and_held_out(images))
        sheet = self.network == "sheet"
        network = DenoisingAutoencoder(self.output == "sigmoid") if sheet else SmallUNet()
        network = placed(network, fabric)
        curves = self._fit(network, train.images[: self.unlabelled], held.images, fabric)
        metrics, pictures = {}, {}
        if self.training.steps:
            clean = spread_out(images.test.images, self.test_images).to(fabric.device)
            metrics, pictures = scored(
                lambda noisy, level: predict(network, noisy).clamp(0, 1),
                clean,
                self.levels,
                self.seed,
                self.similarity,
            )
        parameters = size(network)
        return Outcome(
            metrics,
            curves,
            pictures,
            {"total": parameters, "trained": parameters if self.training.steps else 0},
            network.state_dict(),
        )

    def _fit(self, network: nn.Module, train: Tensor, held: Tensor, fabric: Fabric):
        # Drawn once in the sheet; kept whole, which for MNIST is 188 MB.
        once = noised(train.float() / 255, self.level) if self.noise == "fixed" else None
        valid = held.float() / 255

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            clean = train[index].float() / 255
            if self.noise == "fixed":
                noisy = once[index]
            elif self.noise == "fresh":
                noisy = noised(clean, self.level)
            else:
                levels = self.level * torch.rand(len(index), 1, 1, 1, device=clean.device)
                noisy = noised(clean, levels)
            return LOSSES[self.loss](module(noisy), clean)

        def evaluate(module: nn.Module) -> dict[str, float]:
            found = {}
            for level in (REPORT_NOISE, TEST_NOISE):
                restored = predict(module, paired_noise(valid, level, seed=1000)).clamp(0, 1)
                found[f"valid_psnr_{level:g}"] = psnr(squared_error(restored, valid)).mean().item()
            return found

        return fit(network, loss, len(train), self.training, fabric, evaluate, label=str(self))


def scored(
    restore: Callable[[Tensor, float], Tensor],
    clean: Tensor,
    levels: Sequence[float],
    seed: int,
    similarity: bool = True,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Quality of the restored images at every level, and the first seed's pictures.

    restore: called with noisy images [N, 1, 28, 28] and their level.

    Returns:
        ``mse_0.2``, ``psnr_0.2``, ``psnr_pooled_0.2`` and so on, with ``similarity`` also
        ``similarity_0.2`` (`fewlabels.learn.image_quality.ssim`, mean over images); and
        ``restored_0.2`` uint8 [5, 28, 28] and so on.
    """
    metrics, pictures = {}, {}
    for level in levels:
        restored = restore(paired_noise(clean, level, seed), level)
        found = quality(restored, clean)
        if similarity:
            found["similarity"] = ssim(restored, clean).mean().item()
        metrics |= {f"{name}_{level:g}": value for name, value in found.items()}
        if seed == 0 and level in PICTURED:
            pictures[f"restored_{level:g}"] = as_pictures(restored[:PICTURES])
    return metrics, pictures


def as_pictures(images: Tensor) -> np.ndarray:
    """Images [N, 1, H, W] in 0..1 as uint8 [N, H, W]."""
    return images.squeeze(1).mul(255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


@dataclass(frozen=True)
class ClassicalFilter(Experiment, kind="filter", recipe=2):
    """A filter that learns nothing; ``none`` leaves the noisy image as it is.

    Its settings are chosen anew for every level of noise, by PSNR on held-out training images: it
    is told the level, which the networks are not.
    """

    filter: str
    seed: int
    levels: tuple[float, ...]
    test_images: int
    choice_images: int

    def __post_init__(self):
        config.one_of("filter", self.filter, FILTERS)
        config.whole("seed", self.seed, 0)
        config.whole("test_images", self.test_images, PICTURES)
        config.whole("choice_images", self.choice_images, 1)

    def cell(self) -> dict[str, str | int]:
        method = "noisy image" if self.filter == "none" else f"{self.filter} filter"
        return self.row(0, method, "none", "report")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        images = data.load(self.dataset)
        held = spread_out(train_and_held_out(images)[1].images, self.choice_images)
        chosen = {level: self._choose(held, level) for level in self.levels}
        clean = spread_out(images.test.images, self.test_images)
        metrics, pictures = scored(
            lambda noisy, level: filtered(self.filter, noisy, **chosen[level]),
            clean,
            self.levels,
            self.seed,
        )
        for level, settings in chosen.items():
            metrics |= {f"{key}_{level:g}": float(value) for key, value in settings.items()}
        return Outcome(metrics, predictions=pictures)

    def _choose(self, clean: Tensor, level: float) -> dict[str, float]:
        noisy = paired_noise(clean, level, seed=1000)
        candidates = filter_settings(self.filter, level)
        found = [
            psnr(squared_error(filtered(self.filter, noisy, **each), clean)).mean().item()
            for each in candidates
        ]
        return candidates[int(np.argmax(found))]


def filter_settings(name: str, level: float) -> list[dict[str, float]]:
    """The settings that are compared for a filter, as arguments of :func:`filtered`."""
    if name == "median":
        return [{"size": size} for size in (1, 3, 5)]
    if name == "bilateral":
        return [
            {"colour": colour, "spatial": spatial}
            for colour in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
            for spatial in (1, 2)
        ]
    if name == "non-local means":
        return [
            {"strength": share * level, "patch": patch}
            for share in (0.2, 0.35, 0.5, 0.8, 1.1)
            for patch in (3, 5)
        ]
    return [{}]


def filtered(name: str, images: Tensor, **settings: float) -> Tensor:
    """Images [N, 1, H, W] in 0..1 through a filter of SciPy (median) or scikit-image."""
    config.one_of("filter", name, FILTERS)
    if name == "none":
        return images
    if name == "median":
        size = int(settings["size"])
        return torch.from_numpy(median_filter(images.numpy(), (1, 1, size, size)))
    if name == "bilateral":

        def one(image):
            return denoise_bilateral(
                image,
                win_size=5,
                sigma_color=settings["colour"],
                sigma_spatial=settings["spatial"],
            )
    else:

        def one(image):
            return denoise_nl_means(
                image,
                patch_size=int(settings["patch"]),
                patch_distance=5,
                h=settings["strength"],
                fast_mode=True,
            )

    restored = np.stack([one(image) for image in images.squeeze(1).numpy()])
    return torch.from_numpy(restored).float().unsqueeze(1).clamp(0, 1)


@dataclass(frozen=True)
class CodeProbe(Experiment, kind="code", recipe=1):
    """Name the digits from the denoising code, given chapter 1's label draws.

    Draw ``draw`` takes the same labelled images as in chapter 1. The code is that of the clean
    image; without ``start`` it is the image itself.
    """

    start: DenoisingTraining | None
    readout: str
    labels: int
    draw: int

    def __post_init__(self):
        config.one_of("readout", self.readout, READOUTS)
        config.whole("draw", self.draw, 0)
        if self.labels < 10 or self.labels % 10:
            raise UserError(f"labels is {self.labels}; allowed: a multiple of the ten classes")
        if self.start is not None and self.start.network != "sheet":
            raise UserError(f"start has the network {self.start.network}; allowed: sheet")

    def cell(self) -> dict[str, str | int]:
        if self.start is None:
            code = "pixels"
        else:
            code = "denoising code" if self.start.training.steps else "untrained code"
        return self.row(self.labels, f"{code}, {self.readout}", "frozen", "report")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        images = data.load(self.dataset)
        drawn = data.draw_labels(images.train.labels, self.labels // 10, self.draw)
        labelled = images.train.take(drawn)
        if self.start is None:
            codes = [split.images.flatten(1).float() / 255 for split in (labelled, images.test)]
        else:
            network = DenoisingAutoencoder()
            network.load_state_dict(store.weights(self.start, fabric))
            placed(network, fabric).eval()
            codes = [
                _encoded(network, labelled.images.to(fabric.device)),
                self._test_codes(network, images.test.images.to(fabric.device)),
            ]
        probabilities = probed(self.readout, codes[0], labelled.labels, codes[1], 10)
        return classified(probabilities, images.test.labels)

    def _test_codes(self, network: DenoisingAutoencoder, images: Tensor) -> Tensor:
        if self.start.id not in _CODES:
            if len(_CODES) == KEPT_CODES:
                _CODES.popitem()
            _CODES[self.start.id] = _encoded(network, images)
        return _CODES[self.start.id]


def _encoded(network: DenoisingAutoencoder, images: Tensor) -> Tensor:
    """The bottleneck of uint8 images, flat: [N, 1568]."""
    return predict(network.encoder, images.float() / 255).flatten(1)
