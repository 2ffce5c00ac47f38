"""The library: learn from images without labels, read off what a few labels give, compare.

Images are uint8 with values 0..255: NumPy arrays [N, H, W] (grey) or [N, H, W, 3] (colour), or
torch tensors [N, C, H, W] with one channel or three. They are square. Labels are integers
0..classes-1. Every function raises `fewlabels.errors.UserError`, a `ValueError`, for input that
does not fit, with one line that names the remedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from fewlabels import config
from fewlabels.book.advise import Advice, advise
from fewlabels.data import load, reading
from fewlabels.data.views import View, normalised
from fewlabels.errors import UserError
from fewlabels.evidence import tables
from fewlabels.evidence.advice import estimate
from fewlabels.evidence.power import detectable
from fewlabels.evidence.statistics import FEWEST
from fewlabels.kinds.advice import SYMMETRIES
from fewlabels.learn import probes
from fewlabels.learn.evaluation import checked_classes
from fewlabels.learn.features import extract
from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.training import evaluated, fit, predict
from fewlabels.nets.backbones import NAMES, backbone
from fewlabels.nets.pocket import PocketNet
from fewlabels.nets.pretrained import Pretrained
from fewlabels.nets.pretrained import backbone as pretrained_backbone
from fewlabels.runs.sweep import fabric_on

__all__ = ["Advice", "Encoder", "advise", "compare", "features", "load", "pretrain", "probe"]

TRANSFORMERS = {"mae": ("vit-narrow", "vit-28"), "aim": ("aim-narrow", "aim", "aim-tuned")}
"""Methods that need one, and which they take; the images' sides have to be multiples of seven."""
POCKET = "pocket"
CONVOLUTIONAL = (POCKET, *(name for name in NAMES if name.startswith("resnet")))


class Encoder(nn.Module):
    """A backbone with all that it needs to know of its images: `forward` takes uint8.

    ``side``: pixels a side, ``channels``: 1 or 3, of the images that it was made for.
    """

    def __init__(self, backbone: nn.Module, side: int, channels: int):
        super().__init__()
        self.backbone, self.side, self.channels = backbone, side, channels

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, C, side, side] to features float [N, D]."""
        # As in the pretraining: three channels, normalised like its views.
        shown = images.expand(-1, 3, -1, -1).float() / 255
        return self.backbone(normalised(shown, View.mean, View.deviation))


def pretrain(
    images: np.ndarray | Tensor,
    method: str = "simclr",
    *,
    epochs: int = 50,
    network: str = "",
    symmetry: str = "mirror",
    seed: int = 0,
    device: str = "auto",
) -> Encoder:
    """Train a backbone on images alone, without labels.

    Args:
        images: uint8 [N, H, H] or [N, H, H, 3], or a tensor [N, C, H, H]; a few hundred or more.
        method: ``simclr``, ``moco``, ``vicreg``, ``rotation``, ``mae`` or ``aim``.
        epochs: passes over the images; 0 leaves the backbone untrained, the control that every
            pretraining has to beat.
        network: ``pocket`` (small, for any side) where nothing is said, or a ResNet of
            `fewlabels.nets.backbones.NAMES`, such as ``resnet18``; for ``mae`` and ``aim`` one of
            `TRANSFORMERS`, the narrowest where nothing is said.
        symmetry: what leaves an image's meaning as it is: ``none``, ``mirror`` (left and right), or
            ``any`` (no way up, as cells have none).
        seed: of the weights and of everything drawn; on one machine it repeats a result exactly.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The encoder, in evaluation mode, on the device.

    Raises:
        UserError: an unknown method, network or symmetry; a seed that is no whole number from 0 on;
            a side that a transformer does not take; fewer than two images. NonFiniteLoss where
            training diverges.
    """
    config.one_of("method", method, METHODS)
    config.one_of("symmetry", symmetry, SYMMETRIES)
    known = TRANSFORMERS.get(method, CONVOLUTIONAL)
    network = network or known[0]
    config.one_of("network", network, known)
    config.whole("seed", _plain(seed), 0, 2**63 - 1)
    pixels, own = _pixels(images), METHODS[method]
    if len(pixels) < 2:
        raise UserError(f"images holds {len(pixels)}: two or more are needed to learn from.")
    channels, side = pixels.shape[1:3]
    if method in TRANSFORMERS and side % 7:
        raise UserError(f"images have {side} pixels a side; {method} takes multiples of 7, as 28.")
    fabric = fabric_on(device, "32-true")
    torch.manual_seed(seed)
    # Views change colours: grey images are shown in three channels, all equal.
    shown = pixels.expand(-1, 3, -1, -1).to(fabric.device)
    trunk = PocketNet(side) if network == POCKET else backbone(network, side)
    recipe = replace(own.COURSES["tuned"], epochs=_plain(epochs)).recipe(len(shown))
    module = own.build("tuned", trunk, side, recipe, False)
    flips = {"flip": 0.5 * (symmetry != "none"), "vertical_flip": 0.5 * (symmetry == "any")}
    module._view = replace(module._view, **flips)
    module = module.to(fabric.device, memory_format=torch.channels_last)

    def loss(wrapped: nn.Module, index: Tensor) -> Tensor:
        return module.loss(*wrapped(*module.views(shown[index])))

    fit(module, loss, len(shown), recipe, fabric, label=f"pretrain {method}")
    return Encoder(trunk, side, channels).to(fabric.device).eval()


def features(encoder: Encoder | str, images: np.ndarray | Tensor) -> np.ndarray:
    """What a frozen backbone makes of images.

    Args:
        encoder: of `pretrain`, or the name of a classifier of torchvision, such as ``resnet18``:
            its backbone with weights trained on ImageNet (45 MB, downloaded once).
        images: as in `pretrain`, for an encoder with its side and channels.

    Returns:
        float32 [N, D], 128 numbers an image for ``pocket``, 512 for a ResNet-18.

    Raises:
        UserError: an encoder of another kind; images of another side or with other channels;
            weights that cannot be had.
    """
    if not isinstance(encoder, Encoder | str):
        raise UserError(
            f"encoder is {type(encoder).__name__}; allowed: what `pretrain` returns, or the name "
            "of a classifier of torchvision, as resnet18"
        )
    pixels = _pixels(images)
    if isinstance(encoder, str):
        return extract(pretrained_backbone(Pretrained(encoder)), pixels, "cpu").numpy()
    if pixels.shape[1:] != (encoder.channels, encoder.side, encoder.side):
        raise UserError(
            f"images are {list(pixels.shape[1:])}; this encoder takes "
            f"[{encoder.channels}, {encoder.side}, {encoder.side}], as it was trained on."
        )
    device = next(encoder.parameters()).device
    found = evaluated(encoder, lambda _: predict(lambda part: encoder(part.to(device)), pixels))
    return found.cpu().numpy()


def probe(features: np.ndarray, labels: np.ndarray, c: float = 1.0) -> Pipeline:
    """A linear classifier on frozen features, fitted: scikit-learn's logistic regression.

    Args:
        features: float [n, D], of the images with labels.
        labels: int [n], two classes or more.
        c: inverse strength of the L2 penalty, above zero; with few labels smaller values may help.

    Returns:
        An estimator with ``predict``, ``predict_proba`` and ``score``, for features [N, D].

    Raises:
        UserError: other types or shapes, numbers that are not finite, one class, c of zero or less.
    """
    features, labels = reading.array("features", features), checked_classes(labels, None, "labels")
    fits = features.ndim == 2 and features.size and len(features) == len(labels)
    if not fits or features.dtype.kind not in "biuf" or not np.isfinite(features).all():
        raise UserError(
            f"features is {features.dtype} {list(features.shape)} for {len(labels)} labels; "
            "allowed: numbers [n, D], finite"
        )
    if len(np.unique(labels)) < 2:
        raise UserError("labels are all of one class: two or more are needed to tell apart.")
    return probes.logistic(_plain(c)).fit(features, labels)


def compare(
    predictions: Mapping[str, Sequence[np.ndarray] | np.ndarray], labels: np.ndarray
) -> pd.DataFrame:
    """How much every method differs from the first one in mean class accuracy, paired.

    Every method has predicted the same images, draw by draw: draw d of one method saw the same
    labelled images as draw d of another. Intervals hold both the luck of the draws and that of the
    test images.

    Args:
        predictions: method -> classes int [draws, N], or [N] for one draw; three draws or more for
            intervals.
        labels: int [N], the true classes.

    Returns:
        A row per method: method, accuracy (mean class accuracy, a fraction), n (draws); and against
        the first method: difference, low, high (fractions, 95%), p (Holm's correction), and
        detectable, the smallest true difference that so many draws and images find with a
        probability of 80%.

    Raises:
        UserError: what are no classes; numbers of draws or images that differ; no method.
    """
    if not isinstance(predictions, Mapping) or not predictions:
        raise UserError(
            "predictions are empty or no dictionary; allowed: method -> classes [draws, N], with "
            "one method or more"
        )
    truth = checked_classes(labels, None, "labels")
    rows, gaps, first = [], [], None
    for name, given in predictions.items():
        classes = np.atleast_2d(reading.array(name, given))
        expected = (len(classes) or 1, len(truth)) if first is None else first.shape
        if classes.shape != expected:
            raise UserError(
                f"{name} has predictions {list(classes.shape)} for {len(truth)} labels; allowed: "
                "[draws, N], the same for every method"
            )
        checked_classes(classes.ravel(), None, name)
        hits = (classes == truth).astype(float)
        first = hits if first is None else first
        gaps.append(estimate(hits - first, truth))
        rows.append({"method": name, "accuracy": estimate(hits, truth).mean, "n": len(hits)})
    p_values = [float("nan"), *tables.corrected(gaps[1:])]
    for row, gap, p in zip(rows, gaps, p_values, strict=True):
        row |= {"difference": gap.mean, "low": gap.low, "high": gap.high, "p": p}
        row["detectable"] = (
            detectable(gap.error, gap.df) if gap.error and gap.n >= FEWEST else float("nan")
        )
    return pd.DataFrame(rows)


def _pixels(images: np.ndarray | Tensor) -> Tensor:
    """uint8 [N, C, H, H], one or more."""
    given = pixels = images if isinstance(images, Tensor) else reading.array("images", images)
    if not isinstance(images, Tensor) and given.dtype == np.uint8 and given.ndim in (3, 4):
        # torch takes neither negative strides nor what is read-only.
        pixels = torch.from_numpy(np.require(given, requirements="CW"))
        pixels = pixels.unsqueeze(1) if given.ndim == 3 else pixels.permute(0, 3, 1, 2)
    fits = isinstance(pixels, Tensor) and pixels.dtype == torch.uint8
    fits = fits and pixels.dim() == 4 and pixels.numel()
    if not fits or pixels.shape[1] not in (1, 3) or pixels.shape[2] != pixels.shape[3]:
        raise UserError(
            f"images are {given.dtype} {list(given.shape)}; allowed: uint8, square, one or more, "
            "an array [N, H, H] or [N, H, H, 3], or a tensor [N, 1 or 3, H, H]"
        )
    return pixels.contiguous()


def _plain(value: object) -> object:
    """A number of NumPy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value
