"""Where in a classifier of torchvision the last maps are, which Grad-CAM looks at."""

from functools import lru_cache, partial

import torch
import torchvision
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.nets.pretrained import RESNETS, Pretrained, options


@lru_cache(maxsize=64)
def last_maps(architecture: str, size: int) -> str:
    """The module of a classifier that puts out its last maps, by its name in the backbone's body.

    Maps are [N, C, H, W] with H and W above 1; what comes behind them only pools. Found by the
    shapes that modules put out in a pass without memory, never by their place or name.

    Args:
        size: pixels a side of the images.

    Raises:
        UserError: the network takes no images of this size, or ends in tokens and not in maps.
    """
    if architecture.startswith(RESNETS) and size > 32:
        return "layer4"  # The book's, known without a pass.
    # All of a family are alike; these alone cannot be made without memory.
    small = f"{architecture[:8]}_400mf" if architecture.startswith("regnet_") else architecture
    place = "cpu" if architecture.startswith("regnet_") else "meta"
    found, maps, tokens = {}, "", False
    with torch.device(place), torch.no_grad():
        network = torchvision.models.get_model(
            small, weights=None, **options(Pretrained(small, "shapes only"))
        ).eval()
        for name, module in network.named_modules():
            module.register_forward_hook(partial(_note, found, name))
        try:
            network(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(
                f"size is {size}, which {architecture} does not take ({reason}); try 224, or a "
                "ResNet, which takes any"
            ) from None
    for name, (shape, side) in found.items():
        if len(shape) < 3 or shape[0] != 1 or shape[1] == 1:
            continue  # Features, or the windows of an attention.
        if len(shape) == 4 and 1 < shape[2] == shape[3] <= side:
            maps, tokens = name, False
        elif len(shape) == 3 or shape[1] == shape[2]:
            tokens = True
    if tokens or not maps:
        raise UserError(
            f"architecture {architecture} ends in {'tokens' if tokens else 'single values'} and "
            f"not in maps at {size} pixels, and Grad-CAM needs maps: choose another, as resnet50"
        )
    return maps


def _note(found: dict, name: str, module: nn.Module, inputs: tuple, output) -> None:
    """Shape of a module's output and side of its input, in the order in which modules end."""
    if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
        found.pop(name, None)
        found[name] = (tuple(output.shape), inputs[0].shape[-1])
