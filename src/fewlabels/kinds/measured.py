"""What kinds of runs do alike: names, sizes, places, read-outs, and a classifier's scores."""

from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.learn import evaluation, probes
from fewlabels.runs.records import Outcome


def placed(network: nn.Module, fabric: Fabric) -> nn.Module:
    """On the device, in the memory layout that convolutions are fastest in."""
    return network.to(fabric.device, memory_format=torch.channels_last)


def scored_protocol(protocol: str, scored_on: str) -> str:
    """What tables call a protocol: runs behind a choice say that no test image scored them."""
    return protocol if scored_on == "test" else f"{protocol}, scored on validation images"


def size(*parts: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for part in parts for p in part.parameters())


def sizes(network: nn.Module) -> dict[str, int]:
    """Parameters in all (``total``) and those with gradients (``trained``)."""
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return {"total": size(network), "trained": trained}


def probed(readout: str, known: Tensor, labels: Tensor, scored: Tensor, classes: int) -> Tensor:
    """Probabilities [N, K] that a read-out of features gives, on the CPU.

    Args:
        readout: ``kNN`` or ``linear probe``, see `fewlabels.learn.probes`.
        known, scored: features [n, D] with labels [n], and those [N, D] to be named.
    """
    probe = {"kNN": probes.knn, "linear probe": probes.linear_probe}[readout]
    arrays = [each.cpu().numpy() for each in (known, labels, scored)]
    return torch.from_numpy(probe(*arrays, num_classes=classes))


def classified(
    probabilities: Tensor, truth: Tensor, extra: dict[str, float] | None = None, **more: Any
) -> Outcome:
    """All of `evaluation.evaluate`, and the classes predicted for the scored images.

    Args:
        probabilities, truth: [N, K] and [N].
        extra: more metrics.
        more: ``curves`` and ``parameters`` of the outcome.
    """
    p = probabilities.detach().cpu().numpy()
    metrics = evaluation.evaluate(p, truth.cpu().numpy()) | (extra or {})
    return Outcome(metrics, predictions={"classes": p.argmax(axis=1).astype(np.uint8)}, **more)


def accuracy(logits: Tensor, truth: Tensor) -> float:
    """Share of the images named rightly, from logits [N, K] and classes [N].

    Convention: a fraction; the first of equally high classes is the answer.
    """
    return (logits.argmax(dim=1) == truth).float().mean().item()


def validation(logits: Tensor, truth: Tensor) -> dict[str, float]:
    """A point of the learning curves.

    Convention: ``valid_loss`` in nats, the mean over images.
    """
    return {
        "valid_loss": F.cross_entropy(logits, truth).item(),
        "valid_accuracy": accuracy(logits, truth),
    }
