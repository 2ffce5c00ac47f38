"""Pictures of images: classes, pairs, patches. What they show is data, never a result."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from fewlabels.data import ImageData
from fewlabels.data.views import View
from fewlabels.evidence import figures

COLUMNS = 8
PATCHES = 7
"""Patches on a side of an image, as the transformers of chapter 5 cut it."""


def examples(images: ImageData) -> Figure:
    """The first eight training images of every class, a row per class."""
    rows, titles = [], []
    for k in range(len(images.classes)):
        chosen = images.train.images[(images.train.labels == k).nonzero().squeeze(1)[:COLUMNS]]
        white = torch.full_like(images.train.images[:1], 255)
        rows.append(torch.cat([chosen, white.repeat(COLUMNS - len(chosen), 1, 1, 1)]))
        titles += [f"class {k}"] + [""] * (COLUMNS - 1)
    return figures.image_grid(torch.cat(rows).numpy(), titles, columns=COLUMNS)


def views(images: Tensor, view: View) -> Figure:
    """Images uint8 [N, C, H, W] above four random views of each."""
    torch.manual_seed(3)
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1) for values in (view.mean, view.deviation)
    )
    drawn = [
        (view(images) * deviation + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
        for _ in range(4)
    ]
    return figures.image_grid(torch.cat([images, *drawn]).numpy(), columns=len(images))


def pairs(images: ImageData, found: Sequence[tuple[str, int, str, int]]) -> Figure | figures.Absent:
    """Pairs of images, one above the other: (split, index, other split, other index) each."""
    parts = {"train": images.train, "valid": images.valid, "test": images.test}
    places = [pair[:2] for pair in found] + [pair[2:] for pair in found]
    if not places:
        return figures.empty("no pair found")
    shown = torch.stack([parts[split].images[index] for split, index in places])
    titles = [f"{split}, class {int(parts[split].labels[index])}" for split, index in places]
    return figures.image_grid(shown.numpy(), titles, columns=len(found))


def hidden(images: Tensor, share: float = 0.75) -> Tensor:
    """Images uint8 [N, C, H, W] with this share of their 49 patches grey."""
    generator = torch.Generator().manual_seed(3)
    patch = images.shape[-1] // PATCHES
    shown = int((1 - share) * PATCHES**2)
    kept = torch.rand(len(images), PATCHES**2, generator=generator).argsort(dim=1) < shown
    mask = kept.view(-1, 1, PATCHES, PATCHES).repeat_interleave(patch, 2)
    return torch.where(mask.repeat_interleave(patch, 3), images, torch.full_like(images, 128))


def reading_order(image: Tensor) -> Figure:
    """An image uint8 [C, H, W] with its patches numbered, and what comes before some of them."""
    patch, places = image.shape[-1] // PATCHES, (10, 24, 40)
    picture = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
    fig, axes = plt.subplots(1, 1 + len(places), figsize=(figures.WIDTH, 1.8))
    halo = [withStroke(linewidth=1.2, foreground=figures.INK)]
    for k in range(PATCHES**2):
        middle = ((k % PATCHES + 0.5) * patch - 0.5, (k // PATCHES + 0.5) * patch - 0.5)
        style = {"fontsize": 5, "color": "white", "path_effects": halo}
        axes[0].text(*middle, str(k + 1), ha="center", va="center", **style)
    axes[0].set_title("order", fontweight="normal")
    for ax, place in zip(axes, (PATCHES**2, *places), strict=True):
        shown = np.array(picture)
        for k in range(place, PATCHES**2):
            row, column = k // PATCHES * patch, k % PATCHES * patch
            shown[row : row + patch, column : column + patch] = 128
        if place < PATCHES**2:
            ax.set_title(f"seen before patch {place + 1}", fontweight="normal")
        ax.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="none")
        ax.set_axis_off()
    return figures.shown(fig)
