"""Views of whole batches, as Lightly and torchvision make them of single images, on the device.

Every image draws its own parameters from torch's generator of its device. As in
`fewlabels.data.augment`, images are float [N, C, H, W], and UserError names what is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fewlabels import config
from fewlabels.data.augment import check, one_each, share
from fewlabels.errors import UserError


@dataclass(frozen=True)
class View:
    """One random view of an image, as Lightly's and torchvision's transforms make it from files.

    In this order: a random crop resized to ``size``, flips, colour jitter in random order, grey,
    blur, solarisation, normalisation. Every image draws its own parameters, from the same
    distributions; pixels are not rounded to whole grey levels in between, as they are with PIL.
    """

    size: int
    """Side of the view in pixels."""
    min_scale: float = 1.0
    """Smallest share of the image's area in a crop; 1 takes the whole image."""
    bicubic: bool = False
    """Resize with PIL's bicubic filter instead of the bilinear one."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: float = 0.0
    jitter: float = 0.0
    """Probability of colour jitter; it and ``grey`` do nothing to images of one channel."""
    brightness: float = 0.0
    """The factor is uniform in 1 - b .. 1 + b, not below 0; contrast and saturation alike."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """The shift is uniform in -h .. h, as a share of the colour circle."""
    grey: float = 0.0
    blur: float = 0.0
    """Probability of a Gaussian blur with a deviation uniform in ``sigmas``."""
    sigmas: tuple[float, float] = (0.1, 2.0)
    """In pixels."""
    solarise: float = 0.0
    """Probability that every value from 128 of 255 on is inverted."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Of the normalisation, per channel, for values in 0..1. The defaults are ImageNet's."""

    def __post_init__(self):
        config.whole("size", self.size, 1)
        for key in ("flip", "vertical_flip", "jitter", "grey", "blur", "solarise"):
            share(key, getattr(self, key))

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] to normalised float [N, C, size, size]. UserError for other types."""
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise UserError(
                f"images are {images.dtype} {tuple(images.shape)}: pass uint8 [N, C, H, W], at "
                "least one."
            )
        views = images.float() / 255
        views = random_crops(views, self.size, self.min_scale, self.flip, self.bicubic)
        views = views.clamp(0, 1) if self.bicubic else views
        if self.vertical_flip:
            views = torch.where(_chosen(views, self.vertical_flip), views.flip(2), views)
        colour = images.shape[1] == 3
        if self.jitter and colour:
            strengths = (self.brightness, self.contrast, self.saturation)
            views = colour_jitter(views, self.jitter, strengths, self.hue)
        if self.grey and colour:
            views = torch.where(_chosen(views, self.grey), luminance(views), views)
        if self.blur:
            views = torch.where(_chosen(views, self.blur), blurred(views, self.sigmas), views)
        if self.solarise:
            bright = _chosen(views, self.solarise) & (views >= 128 / 255)
            views = torch.where(bright, 1 - views, views)
        return normalised(views, self.mean, self.deviation)


def two_views(view: View, images: Tensor) -> tuple[Tensor, Tensor]:
    """Two random views of every image, drawn at once: uint8 [N, C, H, W] to floats."""
    first, second = view(torch.cat([images, images])).chunk(2)
    return first, second


def normalised(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Float [N, C, H, W] minus each channel's mean, over its deviation.

    Three values serve a single channel as their average, so that one view suits grey images too.
    """
    check(images)
    if images.shape[1] not in (1, len(mean)) or len(mean) != len(deviation):
        raise UserError(
            f"images have {images.shape[1]} channels, mean {len(mean)} values and deviation "
            f"{len(deviation)}: pass one for each channel."
        )
    centre, scale = (_kept(tuple(values), images.device) for values in (mean, deviation))
    if images.shape[1] != len(centre):
        centre, scale = centre.mean().view(1), scale.mean().view(1)
    return (images - centre.view(1, -1, 1, 1)) / scale.view(1, -1, 1, 1)


def random_crops(
    images: Tensor, size: int, min_scale: float, flip: float, bicubic: bool = False
) -> Tensor:
    """torchvision's ``RandomResizedCrop`` with ratios 3/4 to 4/3, and a horizontal flip.

    A crop is resized by two matrices of interpolation weights per image, one for its rows and one
    for its columns: exactly PIL's filters, edges included, and two batched products. A flip turns
    the matrix of the columns around.

    Args:
        images: float [N, C, H, W].
        size: side of the result.
        min_scale: the share of the area is uniform in min_scale..1; 1 takes the whole image.
        flip: probability of the flip.
        bicubic: with PIL's bicubic filter, whose values run a little beyond those of the image.
    """
    check(images)
    share("min_scale", min_scale, above_zero=True)
    share("flip", flip)
    n, _, height, width = images.shape
    if min_scale < 1:
        boxes = crop_boxes(n, height, width, min_scale, images.device)
    else:
        boxes = torch.tensor([0, 0, height, width], device=images.device).expand(n, 4)
    top, left, rows, columns = boxes.float().unbind(dim=1)
    down = resize_weights(top, rows, height, size, bicubic)
    across = resize_weights(left, columns, width, size, bicubic)
    flipped = torch.rand(n, 1, 1, device=images.device) < flip
    across = torch.where(flipped, across.flip(1), across)
    return down.unsqueeze(1) @ images @ across.transpose(1, 2).unsqueeze(1)


def crop_boxes(
    count: int, height: int, width: int, min_scale: float, device: torch.device
) -> Tensor:
    """Boxes int64 [count, 4] (top, left, rows, columns) as ``RandomResizedCrop`` draws them.

    It tries ten shapes and takes the first that fits, else the whole image.
    """
    area = height * width * (min_scale + (1 - min_scale) * torch.rand(10, count, device=device))
    ratio = torch.exp((2 * torch.rand(10, count, device=device) - 1) * math.log(4 / 3))
    columns = (area * ratio).sqrt().round().long()
    rows = (area / ratio).sqrt().round().long()
    fits = (columns > 0) & (columns <= width) & (rows > 0) & (rows <= height)
    first = fits.float().argmax(dim=0, keepdim=True)
    none = ~fits.any(dim=0)
    rows = rows.gather(0, first).squeeze(0).masked_fill(none, height)
    columns = columns.gather(0, first).squeeze(0).masked_fill(none, width)
    place = torch.rand(2, count, device=device)
    top = (place[0] * (height - rows + 1)).long()
    left = (place[1] * (width - columns + 1)).long()
    return torch.stack([top, left, rows, columns], dim=1)


def resize_weights(start: Tensor, length: Tensor, full: int, size: int, bicubic: bool) -> Tensor:
    """Matrices [N, size, full] that resize ``length`` pixels from ``start`` on to ``size``.

    PIL's way: the filter widens where pixels are merged, sees nothing outside the crop, and its
    weights sum to one. start, length: float [N].
    """
    step = (length / size).view(-1, 1, 1)
    pixel = torch.arange(full, device=start.device).view(1, 1, -1)
    target = torch.arange(size, device=start.device).view(1, -1, 1)
    inside = pixel - start.view(-1, 1, 1)
    distance = (inside - (target + 0.5) * step + 0.5).abs() / step.clamp(min=1)
    weights = _cubic(distance) if bicubic else (1 - distance).clamp(min=0)
    weights = weights * ((inside >= 0) & (inside < length.view(-1, 1, 1)))
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Keys's cubic filter with a = -1/2, PIL's."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def colour_jitter(
    images: Tensor, probability: float, strengths: tuple[float, float, float], hue: float
) -> Tensor:
    """torchvision's ``ColorJitter``, applied to each image with a probability.

    Brightness, contrast and saturation mix an image with black, its mean grey and its own grey;
    they and the hue come in an order that each image draws for itself. The batch is shuffled and
    cut in four; at each of the four places of that order one quarter has its hue shifted.

    Args:
        images: float [N, 3, H, W] in 0..1.
        strengths: of brightness, contrast and saturation.
        hue: largest shift.
    """
    n, device = len(images), images.device
    # On a card randperm draws a short permutation on the CPU, and a step would wait for it.
    shuffled = torch.randperm(n) if device.type == "cpu" else torch.rand(n, device=device).argsort()
    images = images[shuffled]
    jittered = torch.rand(n, device=device) < probability
    low = _kept(tuple(max(0.0, 1 - s) for s in strengths), device)
    high = _kept(tuple(1 + s for s in strengths), device)
    factors = low + (high - low) * torch.rand(n, 3, device=device)
    factors = torch.where(jittered.unsqueeze(1), factors, torch.ones_like(factors))
    shift = (2 * torch.rand(n, device=device) - 1) * hue * jittered
    order = torch.rand(n, 3, device=device).argsort(dim=1)
    for turn in range(4):
        now = slice(turn * n // 4, (turn + 1) * n // 4)
        # Of the others, those before have had their hue shifted and are one behind in their order.
        behind = torch.arange(n, device=device) < now.start
        kind = order.gather(1, (turn - behind.long()).clamp(max=2).view(-1, 1))
        changed = _blended(images, kind, factors.gather(1, kind))
        changed[now] = hue_shifted(images[now], shift[now]) if hue else images[now]
        images = changed
    return torch.empty_like(images).index_copy_(0, shuffled, images)


def _blended(images: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """Images with brightness (kind 0), contrast (1) or saturation (2) changed; [N, 1] each."""
    factor, kind = factor.view(-1, 1, 1, 1), kind.view(-1, 1, 1, 1)
    grey = luminance(images)
    other = torch.where(kind == 2, grey, grey.mean(dim=(2, 3), keepdim=True))
    other = torch.where(kind == 0, torch.zeros_like(other), other)
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def luminance(images: Tensor) -> Tensor:
    """Grey value [N, 1, H, W] of colour images [N, 3, H, W] (ITU-R 601, as PIL)."""
    check(images, channels=3)
    red, green, blue = images.unbind(dim=1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def hue_shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Colours [N, 3, H, W] with their hue turned by ``shift`` [N], 1 being full circle."""
    check(images, channels=3, empty=True)
    one_each("shift", shift, images)
    red, green, blue = images.unbind(dim=1)
    value, low = images.amax(dim=1), images.amin(dim=1)
    spread = value - low
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * shift.view(-1, 1, 1)
    # Each channel is value - spread * max(0, min(k, 4 - k, 1)) with k = (n + hue) mod 6.
    k = (_kept((5.0, 3.0, 1.0), images.device).view(1, 3, 1, 1) + hue.unsqueeze(1)) % 6
    share = torch.minimum(torch.minimum(k, 4 - k), torch.ones_like(k)).clamp(min=0)
    return value.unsqueeze(1) - spread.unsqueeze(1) * share


def blurred(images: Tensor, sigmas: tuple[float, float], reach: int = 6) -> Tensor:
    """Gaussian blur with a deviation of each image's own, uniform in ``sigmas``; edges repeat.

    reach: pixels on each side after which the kernel is cut off.
    """
    check(images)
    if not 0 < sigmas[0] <= sigmas[1]:
        raise UserError(f"sigmas are {sigmas}; allowed: two numbers above zero, the smaller first")
    n, _, height, width = images.shape
    sigma = sigmas[0] + (sigmas[1] - sigmas[0]) * torch.rand(n, 1, 1, device=images.device)
    return (
        _blur_weights(sigma, height, reach).unsqueeze(1)
        @ images
        @ _blur_weights(sigma, width, reach).transpose(1, 2).unsqueeze(1)
    )


def _blur_weights(sigma: Tensor, size: int, reach: int) -> Tensor:
    source = torch.arange(-reach, size + reach, device=sigma.device)
    target = torch.arange(size, device=sigma.device)
    distance = (source - target.unsqueeze(1)).abs()
    weights = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance <= reach)
    weights = weights / weights.sum(dim=2, keepdim=True)
    # What lies outside falls on the pixel at the edge.
    places = torch.arange(size, device=sigma.device)
    edge = (source.clamp(0, size - 1).unsqueeze(-1) == places).to(weights.dtype)
    return weights @ edge


@lru_cache(maxsize=64)
def _kept(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Constants on the device: copied there in every step they would make it wait."""
    return torch.tensor(values, device=device)


def _chosen(images: Tensor, probability: float) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) < probability
