"""Generated stand-ins for chest X-rays, for tests: two dark ellipses, hazy in a pneumonia."""

import torch

from fewlabels.data.images import Split
from fewlabels.data.xrays import CLASSES, XrayData

TRAIN = 120
TEST = 40
SIZE = 32


def md5() -> str:
    """Names the procedure: its images follow from this file."""
    return "generated-xrays-1"


def load() -> XrayData:
    """120 training and 40 test images, 32 x 32, grey, two in three a pneumonia; two images a
    patient."""
    train, train_files = _part(TRAIN, seed=0)
    test, test_files = _part(TEST, seed=1)
    return XrayData(
        name="generated_xrays",
        title="generated images",
        classes=CLASSES,
        md5=md5(),
        train=train,
        test=test,
        train_files=train_files,
        test_files=test_files,
    )


def _part(count: int, seed: int) -> tuple[Split, tuple[str, ...]]:
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(count) % 3
    at = torch.linspace(-1, 1, SIZE)
    lungs = ((at.abs().view(1, -1) - 0.45) ** 2 / 0.09 + at.view(-1, 1) ** 2 / 0.5) < 1
    images = torch.where(lungs, 40.0, 150.0).expand(count, SIZE, SIZE)
    haze = torch.tensor([0.0, 60.0, 40.0])[kinds].view(-1, 1, 1) * lungs
    noise = 25 * torch.randn(count, SIZE, SIZE, generator=generator)
    pixels = (images + haze + noise).clamp(0, 255).to(torch.uint8).unsqueeze(1)
    names = (
        "NORMAL/IM-{0:04d}-{1:04d}.png",
        *(f"PNEUMONIA/person{{0}}_{kind}_{{1}}.png" for kind in ("bacteria", "virus")),
    )
    files = tuple(
        names[kind].format(number // 6, number) for number, kind in enumerate(kinds.tolist())
    )
    return Split(pixels, (kinds > 0).long()), files
