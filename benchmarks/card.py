"""A graphics card and the book's training steps: 90 seconds that say what ten minutes of it bring.

Prints, for every method of the source's grid: milliseconds of a step one kernel at a time and as a
captured graph, images per second, the share of what the card does in one large product of the same
precision, and Lightly's pipeline on the same card as its users run it. Then images per second of
several processes at once. Without a card it says so.

    python benchmarks/card.py
"""

import argparse
import multiprocessing
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.training import Course, Loss, Recipe, fit
from fewlabels.nets.backbones import backbone

SIZE, COUNT, BATCH = 28, 12_800, 128
"""Pixels on a side, images and batch, about those of BloodMNIST in the source's grid."""
PROCESSES = (1, 2, 4, 8, 16)


def task(name: str, device: torch.device, tiny: bool) -> tuple[nn.Module, Loss, Recipe]:
    """What `fit` takes, for a pretext method or ``supervised``."""
    torch.manual_seed(0)
    images = torch.randint(256, (COUNT, 3, SIZE, SIZE), device=device, dtype=torch.uint8)
    if name == "supervised":
        trunk = backbone("resnet18", SIZE, tiny=tiny)
        network = nn.Sequential(trunk, nn.Linear(trunk.features, 8))
        labels = torch.arange(COUNT, device=device) % 8

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            return F.cross_entropy(module(images[index] / 255), labels[index])

        recipe = Course(100, 0.05, schedule="halved").recipe(COUNT)
    else:
        method = METHODS[name]
        recipe = method.COURSES["report"].recipe(COUNT)
        trunk = backbone(method.NETWORKS["report"], SIZE, tiny=tiny)
        network = method.build("report", trunk, SIZE, recipe, blur=False)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            return network.loss(*module(*network.views(images[index])))

    return network.to(device, memory_format=torch.channels_last), loss, recipe


def seconds(job: partial, device: torch.device) -> float:
    start = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def step(name: str, captured: bool, fabric: Fabric, steps: int, tiny: bool = False) -> float:
    """Seconds of one step, without what a run does once: the difference of two runs."""
    network, loss, recipe = task(name, fabric.device, tiny)
    runs = [replace(recipe, steps=n, evaluations=1) for n in (steps, steps, 2 * steps)]
    _, short, long = (
        seconds(partial(fit, network, loss, COUNT, r, fabric, captured=captured), fabric.device)
        for r in runs
    )
    return max(long - short, 1e-9) / steps


def operations(name: str, device: torch.device, tiny: bool) -> int:
    """Floating-point operations of one step, forward and backward."""
    network, loss, _ = task(name, device, tiny)
    with FlopCounterMode(display=False) as counter:
        loss(network, torch.arange(BATCH, device=device)).backward()
    return counter.get_total_flops()


def peak(device: torch.device, width: int) -> float:
    """Operations per second of one large matrix product."""
    one = torch.rand(width, width, device=device)
    times = [seconds(partial(torch.mm, one, one), device) for _ in range(6)]
    return 2 * width**3 / min(times)


def lightly(name: str, fabric: Fabric, steps: int, tiny: bool) -> str:
    """Images per second of Lightly's transforms and step; a word where it is not installed."""
    try:
        import pretext_throughput
    except ImportError:
        return "not installed"
    options = SimpleNamespace(
        dataset="cells", batch=BATCH, steps=steps, tiny=tiny, workers=0 if tiny else 8
    )
    return f"{pretext_throughput.measure(name, 'usual', options, fabric)['rate']:,.0f}"


def worker(device: str, name: str, steps: int, tiny: bool, barrier, found) -> None:
    """Train beside others: all start together."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    fabric = Fabric(accelerator=device, devices=1)
    network, loss, recipe = task(name, fabric.device, tiny)
    job = partial(fit, network, loss, COUNT, replace(recipe, steps=steps, evaluations=1), fabric)
    job(captured=True)
    barrier.wait()
    found.put(seconds(partial(job, captured=True), fabric.device))


def together(count: int, device: str, name: str, steps: int, tiny: bool) -> float:
    """Images per second of ``count`` processes."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(count), context.Queue()
    given = (device, name, steps, tiny, barrier, found)
    others = [context.Process(target=worker, args=given) for _ in range(count)]
    for each in others:
        each.start()
    slowest = max(found.get() for _ in others)
    for each in others:
        each.join()
    return count * steps * BATCH / slowest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--methods", nargs="+", default=["supervised", "simclr", "moco", "mae"])
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES)
    parser.add_argument("--steps", type=int, default=100, help="of one measurement")
    parser.add_argument("--seconds", type=float, default=90, help="nothing is begun after them")
    parser.add_argument("--tiny", action="store_true", help="networks that a test can train")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no card on this machine: nothing is measured")
        return 0
    end = time.monotonic() + options.seconds
    torch.set_float32_matmul_precision("medium")
    fabric = Fabric(accelerator=options.device, devices=1)
    top = peak(fabric.device, 256 if options.tiny else 8192)
    print("| method | plain, ms | captured, ms | images/s | share of peak | Lightly, images/s |")
    print("|:--|--:|--:|--:|--:|--:|")
    for name in options.methods:
        if time.monotonic() > end:
            break
        plain, graph = (
            step(name, captured, fabric, options.steps, options.tiny) for captured in (False, True)
        )
        share = operations(name, fabric.device, options.tiny) / graph / top
        usual = "" if name == "supervised" else lightly(name, fabric, options.steps, options.tiny)
        print(
            f"| {name} | {1000 * plain:.2f} | {1000 * graph:.2f} | {BATCH / graph:,.0f} | "
            f"{share:.0%} | {usual} |",
            flush=True,
        )
    print("\n| processes | images/s |\n|--:|--:|")
    for count in options.processes:
        if time.monotonic() > end:
            break
        many = together(count, options.device, options.methods[0], options.steps, options.tiny)
        print(f"| {count} | {many:,.0f} |", flush=True)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "no card"
    print(f"\n{name}; torch {torch.__version__}; peak {top / 1e12:.1f} TFLOP/s; batch {BATCH}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
