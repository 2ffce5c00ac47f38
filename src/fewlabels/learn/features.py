"""Features of a frozen backbone: computed once per image, kept on disk and on the device.

A frozen backbone gives the same features for the same image in every epoch and every run. They are
stored in the cache under a name that holds the checksums of the pixels and of the weights and the
name of the transform, so that features of other images or other weights are never taken for them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewlabels import cached, files, paths
from fewlabels.nets.pretrained import Pretrained

Transform = Callable[[Tensor], Tensor]
"""Images [n, C, H, W], uint8, to what the backbone sees, values 0..255."""


@dataclass(frozen=True)
class View:
    """What is done to the images before the backbone sees them."""

    name: str = "whole"
    """Everything that decides the result, in words: part of the stored features' name."""
    transform: Transform | None = None
    """None: the images as they are. Random numbers come from torch's CPU generator."""
    seed: int = 0


def extract(
    network: nn.Module,
    images: Tensor,
    device: torch.device | str,
    view: View | None = None,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Outputs of ``network`` in evaluation mode, without gradients, batch by batch.

    Args:
        network: takes images with values 0..255, as a `fewlabels.nets.pretrained.Backbone` does.
        images: uint8 [N, C, H, W], on any device.
        device: where to compute; the result stays there.
        view: applied to each batch; its seed fixes the random numbers, and the state of torch's
            generator is restored.
        dtype: of the result; float16 halves the space of intermediate outputs.

    Returns:
        [N, ...]
    """
    view = view or View()
    network = network.to(device, memory_format=torch.channels_last)
    mode = network.training
    network.eval()
    parts = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(view.seed)
        for batch in images.split(batch_size):
            batch = batch if view.transform is None else view.transform(batch)
            batch = batch.to(device).contiguous(memory_format=torch.channels_last)
            parts.append(network(batch).to(dtype))
    network.train(mode)
    return torch.cat(parts)


def frozen(
    source: Pretrained,
    network: Callable[[], nn.Module],
    images: Tensor,
    device: torch.device | str,
    view: View | None = None,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    part: str = "",
) -> Tensor:
    """The same, from the cache if it has them; computed by one process at a time.

    Args:
        source: the weights; their checksum is in the stored name.
        network: called only where the features are missing, gives what is to be applied: the
            backbone of ``source``, or a part of it.
        part: names the part; empty for the whole backbone.
    """
    view = view or View()
    path = (
        paths.cache() / "features" / f"{source.architecture}-{_key(source, images, view, part)}.pt"
    )
    with files.locked(path.with_suffix(".lock")):
        features = cached.load(
            path, lambda kept: isinstance(kept, Tensor) and len(kept) == len(images), device
        )
        if features is None:
            features = extract(network(), images, device, view, batch_size, dtype)
            cached.save(features.cpu(), path)
        return features


def checksum(images: Tensor) -> str:
    """sha256 of the pixels and their shape."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    digest.update(images.cpu().contiguous().numpy())
    return digest.hexdigest()


def _key(source: Pretrained, images: Tensor, view: View, part: str) -> str:
    seed = view.seed if view.transform is not None else 0
    facts = (source.architecture, source.checksum, checksum(images), view.name, str(seed), part)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
