"""Convolutions on maps of a few pixels, without the products that meet only padding.

A padded 3 x 3 convolution on a map of 1 x 1 pixel uses one of its nine taps, on 2 x 2 four of nine
at each place; oneDNN multiplies by the zeros around the map as well. A ResNet-18 with the usual
stem sees a 28-pixel image as maps of 7, 4, 2 and 1 pixels, and spends most of a training step on
such zeros. Here only the taps that meet the map are multiplied: the same function of the same
weights, up to rounding.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

Meeting = tuple[int, int, int]
"""Positions of an output pixel, an input pixel and the tap that joins them, row by row."""


@lru_cache
def meetings(size: int, kernel: int, stride: int, padding: int) -> tuple[tuple[Meeting, ...], int]:
    """All (output, input, tap) of a square map that lie inside it, and the side of the output."""
    out = (size + 2 * padding - kernel) // stride + 1
    axis = [
        (o, o * stride - padding + t, t)
        for o in range(out)
        for t in range(kernel)
        if 0 <= o * stride - padding + t < size
    ]
    both = [(o * out + p, i * size + j, t * kernel + u) for o, i, t in axis for p, j, u in axis]
    return tuple(both), out


class _Taps(torch.autograd.Function):
    """x [positions, N, Ci] and w [Co, taps, Ci] to [output positions, N, Co]: a product a meeting.

    A gradient has the layout of its weights, so that autograd keeps it without a copy.
    """

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, met: tuple[Meeting, ...], outputs: int) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.met = met
        y, begun = x.new_empty(outputs, x.shape[1], len(w)), set()
        for o, i, t in met:
            y[o].addmm_(x[i], w[:, t].t(), beta=float(o in begun))
            begun.add(o)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        x, w = ctx.saved_tensors
        dy = dy.contiguous()
        dx = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        dw = torch.zeros_like(w) if ctx.needs_input_grad[1] else None
        for o, i, t in ctx.met:
            if dx is not None:
                dx[i].addmm_(dy[o], w[:, t])
            if dw is not None:
                dw[:, t].addmm_(dy[o].t(), x[i])
        return dx, dw, None, None


def convolve(images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """``F.conv2d`` without bias, for square maps and kernels; fastest where both are channels last.

    Args:
        images: float [N, Ci, S, S].
        weight: [Co, Ci, K, K].

    Returns:
        [N, Co, S', S'], channels last in memory.
    """
    n, channels, size, _ = images.shape
    outputs, _, kernel, _ = weight.shape
    met, out = meetings(size, kernel, stride, padding)
    x = images.permute(2, 3, 0, 1).reshape(size * size, n, channels).contiguous()
    w = weight.permute(0, 2, 3, 1).reshape(outputs, kernel * kernel, channels)
    y = _Taps.apply(x, w, met, out * out)
    return (
        y.view(out, out, n, outputs)
        .permute(2, 3, 0, 1)
        .contiguous(memory_format=torch.channels_last)
    )


class SmallMapConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` that takes the faster way on the CPU: maps of up to 2 pixels, with stride 2
    up to 4 (benchmarks/)."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        small = height == width <= (2 if self.stride[0] == 1 else 4)
        # Under autocast the plain convolution rounds its operands; that is left to it.
        plain = images.device.type != "cpu" or torch.is_autocast_enabled("cpu")
        if small and not plain:
            return convolve(images, self.weight, self.stride[0], self.padding[0])
        return super().forward(images)


def on_small_maps(network: nn.Module) -> nn.Module:
    """``network`` itself, its square convolutions without bias replaced; weights and names stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _replaceable(module):
            module.__class__ = SmallMapConv2d
    return network


def _replaceable(conv: nn.Conv2d) -> bool:
    square = all(len({*each}) == 1 for each in (conv.kernel_size, conv.stride, conv.padding))
    usual = conv.bias is None and conv.groups == 1 and conv.dilation == (1, 1)
    return square and usual and conv.padding_mode == "zeros"
