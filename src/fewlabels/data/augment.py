"""Augmentation of whole batches on the device, with fresh parameters for every image.

Images are float [N, C, H, W]; every function raises UserError for other types and shapes, and for
no image. Values are looked at only where it is said: a card would have to wait. Randomness comes
from torch's generator of the images' device, which the training loop seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels import config
from fewlabels.errors import UserError


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Every image turned counter-clockwise by its own number of quarter turns.

    Args:
        images: [N, C, H, H] of any type, square.
        turns: int64 [N]; four are none.
    """
    _check(images, square=True, floats=False)
    _one_each("turns", turns, images)
    turned, turns = images, turns.remainder(4).view(-1, 1, 1, 1)
    for k in range(1, 4):
        # Chosen by position a turn would have to wait for the device, to know how many there are.
        turned = torch.where(turns != k, turned, torch.rot90(images, k, dims=(2, 3)))
    return turned


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Every image turned about its middle by its own angle, bilinear, black (0) outside.

    A positive angle is counter-clockwise as one sees the image, so that 90 degrees are one of
    :func:`quarter_turns`.

    Args:
        images: float [N, C, H, H], square.
        degrees: float [N].
    """
    _check(images, square=True)
    _one_each("degrees", degrees, images)
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # From output to input: rows point downwards, so this matrix turns counter-clockwise.
    matrix = torch.stack(
        [torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)], dim=1
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def affine(
    images: Tensor,
    degrees: float,
    shift: float,
    zoom: float = 0.0,
    shear: float = 0.0,
    outside: str = "zeros",
) -> Tensor:
    """Random rotation, translation, zoom and shear, bilinear, black outside.

    Args:
        images: [N, C, H, W].
        degrees: rotation is uniform in -degrees..degrees.
        shift: translation is uniform in -shift..shift, in pixels, per axis.
        zoom: the scale factor is uniform in 1-zoom..1+zoom.
        shear: horizontal shear, uniform in -shear..shear (tangent of the angle).
        outside: ``zeros``, or ``reflection`` to fill the margins with the mirrored image.
    """
    _check(images)
    config.one_of("outside", outside, ("zeros", "reflection"))
    n, _, height, width = images.shape
    uniform = torch.rand(5, n, device=images.device) * 2 - 1
    angle = uniform[0] * math.radians(degrees)
    scale = 1 + uniform[1] * zoom
    slant = uniform[2] * shear
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # affine_grid wants the map from output to input, in coordinates -1..1 (hence 2 / size).
    matrix = torch.stack(
        [
            torch.stack([cos, cos * slant - sin, uniform[3] * 2 * shift / width], dim=1),
            torch.stack([sin, sin * slant + cos, uniform[4] * 2 * shift / height], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def flipped(images: Tensor, axis: str) -> Tensor:
    """Every image mirrored with probability one half.

    Args:
        images: [N, C, H, W] of any type.
        axis: ``horizontal`` exchanges left and right, ``vertical`` top and bottom.
    """
    _check(images, floats=False)
    config.one_of("axis", axis, ("horizontal", "vertical"))
    mirrored = images.flip(3 if axis == "horizontal" else 2)
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), mirrored, images)


def cropped(images: Tensor, smallest: float) -> Tensor:
    """A random window of every image, with its proportions, enlarged to the whole size, bilinear.

    Args:
        images: [N, C, H, W].
        smallest: the window's side is uniform in smallest..1 of the image's, its place uniform.
    """
    _check(images)
    _share("smallest", smallest, above_zero=True)
    n = len(images)
    uniform = torch.rand(3, n, device=images.device)
    side = smallest + (1 - smallest) * uniform[0]
    centre = (1 - side) * (2 * uniform[1:] - 1)
    zero = torch.zeros_like(side)
    matrix = torch.stack(
        [torch.stack([side, zero, centre[0]], dim=1), torch.stack([zero, side, centre[1]], dim=1)],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images.dtype), list(images.shape), align_corners=False)
    # Half a pixel of the window's edge lies outside: it takes the pixel beside it.
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def shifted(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Every image moved by whole pixels of its own, zero where nothing was.

    Args:
        images: [N, C, H, W] of any type.
        rows: int64 [N], pixels downwards.
        columns: int64 [N], pixels to the right.
    """
    _check(images, floats=False)
    _one_each("rows", rows, images)
    _one_each("columns", columns, images)
    n, _, height, width = images.shape
    row = torch.arange(height, device=images.device) - rows.view(-1, 1)
    column = torch.arange(width, device=images.device) - columns.view(-1, 1)
    inside = ((row >= 0) & (row < height)).unsqueeze(2) & (
        (column >= 0) & (column < width)
    ).unsqueeze(1)
    image = torch.arange(n, device=images.device).view(-1, 1, 1)
    row, column = row.clamp(0, height - 1).unsqueeze(2), column.clamp(0, width - 1).unsqueeze(1)
    moved = images.permute(0, 2, 3, 1)[image, row, column]
    return (moved * inside.unsqueeze(3)).permute(0, 3, 1, 2)


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
            _share(key, getattr(self, key))

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
            views = _jittered(views, self.jitter, strengths, self.hue)
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
    _check(images)
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
    _check(images)
    _share("min_scale", min_scale, above_zero=True)
    _share("flip", flip)
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
        images: float [N, 3, H, W] in 0..1, which is looked at.
        strengths: of brightness, contrast and saturation.
        hue: largest shift.
    """
    _check(images, channels=3)
    _share("probability", probability)
    low, high = images.min().item(), images.max().item()
    if not 0 <= low <= high <= 1:
        raise UserError(f"images run from {low:.4g} to {high:.4g}; allowed: 0 to 1.")
    return _jittered(images, probability, strengths, hue)


def _jittered(
    images: Tensor, probability: float, strengths: tuple[float, float, float], hue: float
) -> Tensor:
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
    _check(images, channels=3)
    red, green, blue = images.unbind(dim=1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def hue_shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Colours [N, 3, H, W] with their hue turned by ``shift`` [N], 1 being full circle."""
    _check(images, channels=3, empty=True)
    _one_each("shift", shift, images)
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
    _check(images)
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


def _check(
    images: Tensor,
    channels: int | None = None,
    square: bool = False,
    floats: bool = True,
    empty: bool = False,
) -> None:
    """Refuse what is not [N, C, H, W]; ``empty``: none of them will do."""
    fits = images.ndim == 4 and (empty or len(images)) and channels in (None, images.shape[1])
    fits = fits and (images.is_floating_point() or not floats)
    if not fits or (square and images.shape[2] != images.shape[3]):
        kind = "float" if floats else "a tensor"
        raise UserError(
            f"images are {images.dtype} {tuple(images.shape)}: pass {kind} "
            f"[N, {channels or 'C'}, H, {'H' if square else 'W'}], at least one "
            "(images.unsqueeze(1) adds a channel)."
        )


def _one_each(key: str, values: Tensor, images: Tensor) -> None:
    if values.shape != images.shape[:1]:
        raise UserError(
            f"{key} has shape {tuple(values.shape)} for {len(images)} images: pass one each."
        )


def _share(key: str, value: float, above_zero: bool = False) -> None:
    allowed = f"{'above 0 and at most' if above_zero else 'from 0 to'} 1"
    config.finite(key, value, allowed)
    if not 0 <= value <= 1 or (above_zero and not value):
        raise UserError(f"{key} is {value!r}; allowed: {allowed}")
