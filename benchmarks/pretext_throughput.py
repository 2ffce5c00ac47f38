"""Images per second of pretraining: Lightly's way, from PIL images in worker processes, and ours.

For every method of the table `fewlabels.learn.pretext.methods` both ways train the same network
(protocol ``report``) with the same batch, optimiser and precision. In Lightly's way each image goes
through the method's PIL transform in a DataLoader on all cores, the step is that of its example,
and the convolutions are PyTorch's. Ours draws the views of a batch at once from the data set on the
device, and on a CPU leaves out the products of small maps that meet only padding. A third way, our
loading with PyTorch's convolutions, tells what each part brings.

    python benchmarks/pretext_throughput.py --methods simclr moco --steps 20
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import lightly
import pages
import torch
from lightly.transforms import (
    AIMTransform,
    MAETransform,
    MoCoV2Transform,
    SimCLRTransform,
    VICRegTransform,
)
from lightning.fabric import Fabric
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fewlabels import data
from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.pretext.rotation import one_turn
from fewlabels.nets.backbones import backbone
from fewlabels.nets.small_maps import SmallMapConv2d


class OneView:
    """Rotation prediction has no transform in Lightly: crop and mirror image, as elsewhere."""

    def __init__(self, size: int):
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [self.transform(image)]


TRANSFORMS = {
    "simclr": lambda size: SimCLRTransform(size, gaussian_blur=0.0),
    "moco": lambda size: MoCoV2Transform(size, gaussian_blur=0.0),
    "vicreg": lambda size: VICRegTransform(size, gaussian_blur=0.0),
    "mae": MAETransform,
    "aim": AIMTransform,
    "rotation": OneView,
}


class Pictures(Dataset):
    """The images as PIL images, through a transform. They come from memory, not from files."""

    def __init__(self, images: Tensor, transform: Callable):
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> list[Tensor]:
        return self.transform(Image.fromarray(self.images[position]))


def build(name: str, size: int, count: int, tiny: bool) -> nn.Module:
    """The method's network in protocol report."""
    torch.manual_seed(0)
    method = METHODS[name]
    network = backbone(method.NETWORKS["report"], size, tiny=tiny)
    recipe = method.COURSES["report"].recipe(count)
    return method.build("report", network, size, recipe, blur=False)


WAYS = ("usual", "loading", "ours")


def plain(network: nn.Module) -> nn.Module:
    """With PyTorch's own convolutions, as everybody has them."""
    for module in network.modules():
        if type(module) is SmallMapConv2d:
            module.__class__ = nn.Conv2d
    return network


def optimiser(name: str, network: nn.Module) -> torch.optim.Optimizer:
    course = METHODS[name].COURSES["report"]
    trained = [p for p in network.parameters() if p.requires_grad]
    if course.optimiser == "adamw":
        return torch.optim.AdamW(trained, lr=course.rate)
    return torch.optim.SGD(trained, lr=course.rate)


def endless(pictures: Pictures, options: argparse.Namespace, device: torch.device) -> Iterator:
    loader = DataLoader(
        pictures,
        options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        yield from loader


def inputs(name: str, network: nn.Module, views: list[Tensor]) -> tuple[Tensor, ...]:
    """What the network takes beside the views from the loader: masks or turns, drawn in batches."""
    if name == "rotation":
        return one_turn(views[0])
    count, device = len(views[0]), views[0].device
    if name == "mae":
        return views[0], *network.positions(count, device)
    if name == "aim":
        return views[0], network.prefixes(count, device)
    return tuple(views)


def measure(name: str, way: str, options: argparse.Namespace, fabric: Fabric) -> dict[str, float]:
    """Images per second, and the share of the time that the views take."""
    device = fabric.device
    images = data.load(options.dataset).train.images
    network = build(name, images.shape[-1], len(images), options.tiny)
    if way != "ours":
        network = plain(network)
    if way != "usual":
        network = network.to(device, memory_format=torch.channels_last)
        images = images.to(device)
        order = iter(lambda: torch.randint(len(images), (options.batch,), device=device), None)

        def load() -> tuple[Tensor, ...]:
            return network.views(images[next(order)])
    else:
        network = network.to(device)
        size = getattr(network.backbone, "size", None) or images.shape[-1]
        batches = endless(Pictures(images, TRANSFORMS[name](size)), options, device)

        def load() -> tuple[Tensor, ...]:
            views = [view.to(device, non_blocking=True) for view in next(batches)]
            return inputs(name, network, views)

    module, stepper = fabric.setup(network, optimiser(name, network))

    def train() -> None:
        stepper.zero_grad(set_to_none=True)
        fabric.backward(network.loss(*module(*load())))
        stepper.step()

    # A worker keeps two batches ahead: the warm-up uses them up.
    for _ in range(2 * options.workers + 1 if way == "usual" else 2):
        train()
    whole = timed(train, options.steps, device)
    alone = timed(load, options.steps, device)
    return {"rate": options.steps * options.batch / whole, "views": alone / whole}


def timed(function: Callable, number: int, device: torch.device) -> float:
    """Seconds for so many calls."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(number):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def table(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Medians over the repeats."""
    lines = [
        "| method | Lightly, images/s | ours, images/s | ratio | by loading | by convolutions | "
        "views, share of our time |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for name, by_way in found.items():
        usual, loading, ours = (
            statistics.median(each["rate"] for each in by_way[way]) for way in WAYS
        )
        share = statistics.median(each["views"] for each in by_way["ours"])
        lines.append(
            f"| {name} | {usual:,.0f} | {ours:,.0f} | {ours / usual:.1f} | {loading / usual:.1f} | "
            f"{ours / loading:.1f} | {share:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=list(TRANSFORMS), default=list(TRANSFORMS))
    parser.add_argument("--steps", type=int, default=50, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dataset", choices=list(data.DATASETS), default="bloodmnist", metavar="")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=pages.CORES, help="of the DataLoader")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="networks so small that views count")
    parser.add_argument("--keep", action="store_true", help="put the table into the pages")
    options = parser.parse_args()
    fabric = Fabric(accelerator=options.device, devices=1, precision=options.precision)
    found = {}
    for name in options.methods:
        found[name] = {way: [] for way in WAYS}
        for _ in range(options.repeats):
            for way, rates in found[name].items():
                rates.append(measure(name, way, options, fabric))
    text = (
        f"{table(found)}\n\n{options.dataset}, batch {options.batch}, {options.precision}; median "
        f"of {options.repeats} repeats of {options.steps} steps.\n"
        f"{pages.machine(fabric.device, options.workers, lightly)}\n"
    )
    print(text)
    if options.keep:
        pages.put("pretext throughput", text, pages.README, pages.COMPUTE)


if __name__ == "__main__":
    main()
