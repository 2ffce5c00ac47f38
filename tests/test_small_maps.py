import copy

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import resnet18

from fewlabels.nets.small_maps import SmallMapConv2d, convolve, meetings, on_small_maps


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel, padding", [(3, 1), (3, 0), (1, 0), (5, 2)])
def test_values_and_gradients_are_those_of_the_plain_convolution(size, stride, kernel, padding):
    if size + 2 * padding < kernel:
        pytest.skip("the kernel is larger than the padded map")
    torch.manual_seed(0)
    images = torch.randn(5, 7, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 7, kernel, kernel, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(images, weight, None, stride, padding)
    found = convolve(images, weight, stride, padding)
    torch.testing.assert_close(found, expected)
    towards = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (images, weight), towards),
        torch.autograd.grad(expected, (images, weight), towards),
    )


def test_only_the_middle_tap_meets_a_map_of_one_pixel():
    assert meetings(1, 3, 1, 1) == (((0, 0, 4),), 1)
    assert len(meetings(2, 3, 1, 1)[0]) == 16


def test_a_network_with_small_maps_trains_as_torchvision_s_and_keeps_its_names():
    torch.manual_seed(0)
    plain = resnet18().double()
    quick = on_small_maps(copy.deepcopy(plain))
    assert list(quick.state_dict()) == list(plain.state_dict())
    assert any(isinstance(module, SmallMapConv2d) for module in quick.modules())
    images = torch.randn(4, 3, 28, 28, dtype=torch.float64)
    for network in (plain, quick):
        network(images).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
    for one, other in zip(plain.buffers(), quick.buffers(), strict=True):
        torch.testing.assert_close(other, one)


def test_convolutions_with_bias_groups_or_other_padding_stay_plain():
    odd = torch.nn.Sequential(
        torch.nn.Conv2d(4, 4, 3, padding=1),
        torch.nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2),
        torch.nn.Conv2d(4, 4, 3, padding=1, bias=False, padding_mode="reflect"),
        torch.nn.Conv2d(4, 4, (3, 1), padding=(1, 0), bias=False),
    )
    assert not any(isinstance(module, SmallMapConv2d) for module in on_small_maps(odd))
