"""Images per second of the training loop, against a DataLoader over torchvision's MNIST.

Both train the rotation task of the RotNet report: binarised images, turned by quarter turns, in
shuffled batches; the same network, Adam, float32. Ours is `fewlabels.learn.training.fit` with the
data on the device and each batch turned at once. In the usual way every image goes from PIL through
ToTensor, Normalize and the report's threshold, and is turned by torchvision, in worker processes.

    python benchmarks/training_loop.py [--keep]
"""

import argparse
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import torch
import torchvision
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor
from torchvision.transforms.functional import rotate

from fewlabels import data
from fewlabels.data import Split
from fewlabels.data.augment import quarter_turns
from fewlabels.kinds.measured import placed
from fewlabels.kinds.rotnet import task
from fewlabels.learn.training import Recipe, fit
from fewlabels.nets.compact import CompactNet
from fewlabels.nets.report_rotnet import RotNet

RATE = 0.01
NETWORKS = {"none: loading only": None, "CompactNet": CompactNet, "the report's RotNet": RotNet}


class Turned(Dataset):
    """Item 4 i + k is image i turned by k quarter turns, and k."""

    def __init__(self, images: MNIST):
        self.images = images

    def __len__(self) -> int:
        return 4 * len(self.images)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        image, _ = self.images[position // 4]
        turn = position % 4
        return (rotate(image, 90 * turn) if turn else image), turn


class Threshold:
    """The report's cleaning, after Normalize."""

    def __call__(self, image: Tensor) -> Tensor:
        return (image > 0).float()


def torchvision_mnist(split: Split, folder: Path) -> MNIST:
    """The images in the layout that torchvision reads, with the report's transforms."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    contents = {"images-idx3": split.images.squeeze(1), "labels-idx1": split.labels.byte()}
    for part in ("train", "t10k"):
        for name, values in contents.items():
            head = struct.pack(f">HBB{values.dim()}I", 0, 8, values.dim(), *values.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(head + values.numpy().tobytes())
    pixels = split.images.float() / 255
    normalize = Normalize((pixels.mean().item(),), (pixels.std().item(),))
    return MNIST(folder, transform=Compose([ToTensor(), normalize, Threshold()]))


def ours(network: nn.Module | None, images: Tensor, batch: int, fabric: Fabric) -> Callable:
    """A function that trains (or only loads) for so many steps."""

    def load(index: Tensor) -> tuple[Tensor, Tensor]:
        turns = index % 4
        return quarter_turns(images[index // 4], turns), turns

    def loss(module: nn.Module, index: Tensor) -> Tensor:
        views, turns = load(index)
        return F.cross_entropy(module(views), turns)

    def steps(number: int) -> None:
        if network is None:
            indices = torch.randint(4 * len(images), (number, batch), device=images.device)
            for index in indices:
                load(index)
        else:
            recipe = Recipe(number, batch, RATE, evaluations=1)
            fit(network, loss, 4 * len(images), recipe, fabric)

    return steps


def usual(network: nn.Module | None, batches: Iterator, device: torch.device) -> Callable:
    """The same by the plain loop over a DataLoader."""
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE) if network else None

    def steps(number: int) -> None:
        for _ in range(number):
            views, turns = (tensor.to(device, non_blocking=True) for tensor in next(batches))
            if network is not None:
                optimiser.zero_grad()
                F.cross_entropy(network(views), turns).backward()
                optimiser.step()

    return steps


def endless(images: Dataset, batch: int, workers: int, device: torch.device) -> Iterator:
    loader = DataLoader(
        images,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        yield from loader


def images_per_second(
    steps: Callable[[int], None], batch: int, seconds: float, warm_up: int, device: torch.device
) -> float:
    """Over about ``seconds``, after a warm-up that also uses up what the workers had ahead."""

    def timed(number: int) -> float:
        start = time.perf_counter()
        steps(number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    timed(warm_up)
    trial = timed(2)
    number = max(2, round(2 * seconds / trial))
    return number * batch / timed(number)


def measure(options: argparse.Namespace, fabric: Fabric) -> dict[str, dict[str, list[float]]]:
    """Rates by network and way, the ways in turn."""
    device = fabric.device
    images = task(options.dataset, "report", "test", device).train.images
    rates = {name: {"ours": [], "usual": []} for name in NETWORKS}
    with tempfile.TemporaryDirectory() as folder:
        turned = Turned(torchvision_mnist(data.load(options.dataset).train, Path(folder)))
        for _ in range(options.repeats):
            for name, kind in NETWORKS.items():
                for way in ("ours", "usual"):
                    torch.manual_seed(0)
                    network = kind and placed(kind(4), fabric).train()
                    if way == "ours":
                        steps, warm_up = ours(network, images, options.batch, fabric), 1
                    else:
                        batches = endless(turned, options.batch, options.workers, device)
                        steps = usual(network, batches, device)
                        # A worker keeps two batches ahead.
                        warm_up = 2 * options.workers + 1
                    rate = images_per_second(steps, options.batch, options.seconds, warm_up, device)
                    rates[name][way].append(rate)
    return rates


def table(rates: dict[str, dict[str, list[float]]]) -> str:
    """Medians, with the range over the repeats in brackets."""
    lines = [
        "| network | ours, images/s | DataLoader, images/s | ratio |",
        "|:--|--:|--:|--:|",
    ]
    for name, by_way in rates.items():
        cells = [
            f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"
            for found in by_way.values()
        ]
        ratio = statistics.median(by_way["ours"]) / statistics.median(by_way["usual"])
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=list(data.DATASETS), default="mnist")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=pages.CORES, help="of the DataLoader")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of one measurement")
    parser.add_argument("--keep", action="store_true", help="put the table into the pages")
    options = parser.parse_args()
    fabric = Fabric(accelerator="auto", devices=1)
    found = (
        f"{table(measure(options, fabric))}\n\n{options.dataset}, batch {options.batch}, Adam, "
        f"float32; median and range of {options.repeats} repeats of {options.seconds:g} s.\n"
        f"{pages.machine(fabric.device, options.workers, torchvision)}\n"
    )
    print(found)
    if options.keep:
        pages.put("training loop", found, pages.README, pages.COMPUTE)


if __name__ == "__main__":
    main()
