"""Seconds of training a head, on features computed once against features computed in every epoch.

Both train the same linear head on the same frozen backbone with the same batches; one computes the
backbone's features of all images first and then reads them, as `fewlabels.learn.features` does, the
other passes every batch through the backbone, as a usual fine-tuning script does. The features are
the same, so the heads are: the script checks it. Images and weights are random, which costs the
same time as real ones.

    python benchmarks/frozen_features.py
"""

import argparse
import platform
import time

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.learn import features
from fewlabels.learn.training import Recipe, fit
from fewlabels.nets.frozen import Frozen
from fewlabels.nets.pretrained import Pretrained, backbone

BATCH = 32


def main() -> None:
    given = _given()
    torch.manual_seed(0)
    fabric = Fabric(accelerator=given.device)
    shape = (given.images, 1, given.size, given.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).to(fabric.device)
    labels = torch.randint(0, 2, (given.images,)).to(fabric.device)
    body = backbone(Pretrained(given.architecture, "random")).to(fabric.device).eval()
    print(
        f"{given.architecture}, {given.images} images of {given.size} pixels, batch {BATCH}, "
        f"{fabric.device}, {torch.get_num_threads()} threads, {platform.machine()}"
    )
    print(f"{'epochs':>6} {'recomputed, s':>14} {'once, s':>8} {'ratio':>6}")
    for epochs in given.epochs:
        recipe = Recipe(epochs * -(-given.images // BATCH), BATCH, rate=0.001, evaluations=0)
        again, heads = [], []
        for once in (False, True):
            torch.manual_seed(1)
            head = nn.Linear(body.features, 2).to(fabric.device)
            start = time.perf_counter()
            if once:
                known = features.extract(body, images, fabric.device, batch_size=BATCH)
                _train(head, known, labels, recipe, fabric)
            else:
                _train(Frozen(body, head), images, labels, recipe, fabric)
            if fabric.device.type == "cuda":
                torch.cuda.synchronize()
            again.append(time.perf_counter() - start)
            heads.append(head.weight.detach())
        assert torch.allclose(*heads, atol=1e-3), "the two ways have to train the same head"
        print(f"{epochs:>6} {again[0]:>14.1f} {again[1]:>8.1f} {again[0] / again[1]:>6.1f}")


def _train(module: nn.Module, inputs: Tensor, labels: Tensor, recipe: Recipe, fabric) -> None:
    def loss(network: nn.Module, index: Tensor) -> Tensor:
        return F.cross_entropy(network(inputs[index]), labels[index])

    fit(module, loss, len(labels), recipe, fabric)


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 20])
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
