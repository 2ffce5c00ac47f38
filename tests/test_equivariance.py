import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewlabels.errors import UserError
from fewlabels.learn import equivariance as eq


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.rand(4, 1, 12, 12)


def smooth(side: int) -> torch.Tensor:
    """A picture of two slow waves, periodic over ``side`` pixels."""
    grid = torch.arange(side) * 2 * torch.pi / side
    return (torch.sin(grid).view(-1, 1) + torch.cos(2 * grid)).view(1, 1, side, side)


def test_error_by_hand():
    # f doubles the left column only: a shift to the right takes its factor to the wrong place.
    def f(x):
        return x * torch.tensor([2.0, 1.0])

    errors = eq.error_map(f, torch.tensor([[[[1.0, 0.0]]]]), eq.roll(0, 1))
    # f(g x) = (0, 1), g f(x) = (0, 2).
    assert errors.difference.tolist() == [[[0.0, 1.0]]]
    assert errors.reference.tolist() == [[[0.0, 2.0]]]
    assert errors.over().tolist() == [0.5]
    assert errors.relative[0, 0, 1].item() == pytest.approx(1 / 2**0.5)


def test_norms_are_over_channels():
    def f(x):
        return torch.cat([3 * x, 4 * x], dim=1)

    errors = eq.error_map(f, torch.ones(1, 1, 2, 2), lambda x: 2 * x, lambda x: x)
    assert errors.difference.flatten().tolist() == [5.0] * 4
    assert errors.over().tolist() == [1.0]


def test_a_convolution_moves_with_a_shift_but_not_at_the_border(images):
    errors = eq.error_map(nn.Conv2d(1, 3, 3), images, eq.shift(2, 2))
    inside = torch.zeros(10, 10, dtype=torch.bool)
    inside[2:, 2:] = True
    assert errors.over(inside).max() < 1e-6
    assert errors.over(~inside).min() > 0.01
    assert errors.over(eq.interior(10, 10, 2)).max() < 1e-6


def test_a_convolution_does_not_turn_and_a_symmetric_one_does(images):
    conv = nn.Conv2d(1, 1, 3)
    assert eq.error_map(conv, images, eq.rotation(90)).over().min() > 0.01
    weight = conv.weight + sum(conv.weight.rot90(k, (2, 3)) for k in (1, 2, 3))
    errors = eq.error_map(lambda x: F.conv2d(x, weight), images, eq.rotation(90))
    assert errors.over().max() < 1e-6


def test_a_stride_needs_its_own_transform_of_the_output(images):
    conv = nn.Conv2d(1, 2, 3, stride=2, padding=1, padding_mode="circular")
    assert eq.error_map(conv, images, eq.roll(4, 4), eq.roll(2, 2)).over().max() < 1e-6
    assert eq.error_map(conv, images, eq.roll(4, 4)).over().min() > 0.01


def test_a_part_of_a_pixel_is_exact_for_slow_waves():
    picture = smooth(12)
    half = eq.roll(0.5, 0.5)
    grid = (torch.arange(12) - 0.5) * 2 * torch.pi / 12
    expected = torch.sin(grid).view(-1, 1) + torch.cos(2 * grid)
    assert torch.allclose(half(picture)[0, 0], expected, atol=1e-5)
    assert torch.allclose(half(half(picture)), eq.roll(1, 1)(picture), atol=1e-5)


def test_transforms_go_where_they_say():
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert eq.shift(1, 2)(picture)[0, 0, 1:, 2:].equal(picture[0, 0, :3, :2])
    assert eq.shift(1, 2)(picture)[0, 0, 0].tolist() == [0.0] * 4
    assert eq.rotation(90)(picture).equal(picture.rot90(1, (2, 3)))
    assert eq.rotation(-90)(picture).equal(picture.rot90(3, (2, 3)))
    # Bilinear turning agrees with the exact quarter turn next to it.
    assert torch.allclose(eq.rotation(90.001)(picture), picture.rot90(1, (2, 3)), atol=1e-2)


def test_masks():
    assert eq.interior(5, 4, 1).sum() == 3 * 2
    assert eq.interior(4, 4, 0).all()
    assert eq.disc(4, 0).int().tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]


def test_a_module_is_measured_in_evaluation_mode_and_left_as_it_was(images):
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5)).train()
    errors = eq.error_map(module, images, eq.roll(1, 1))
    assert errors.over().max() < 1e-6
    assert module.training
    assert not errors.difference.requires_grad


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: eq.error_map(nn.Identity(), x.squeeze(1), eq.roll(1, 1)), "adds a channel"),
        (lambda x: eq.error_map(nn.Identity(), x.byte(), eq.roll(1, 1)), "pass float"),
        (lambda x: eq.error_map(nn.Flatten(), x, eq.roll(1, 1)), "return maps"),
        (
            lambda x: eq.error_map(nn.Identity(), x, eq.roll(1, 1), lambda y: y[:, :, 1:]),
            "one shape",
        ),
        (lambda x: eq.error_map(nn.Identity(), x[:, :, 1:], eq.rotation(90)), "only square"),
        (
            lambda x: eq.error_map(nn.Identity(), x, eq.roll(1, 1)).over(eq.interior(12, 12, 6)),
            "too wide",
        ),
        (
            lambda x: eq.error_map(nn.Identity(), x, eq.roll(1, 1)).over(eq.interior(9, 9, 1)),
            r"booleans \(12, 12\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(images, call, told):
    with pytest.raises(UserError, match=told):
        call(images)


def test_the_example_of_the_documentation_runs():
    example = eq.__doc__.split("::\n\n", 1)[1].split("\n\nWhere")[0]
    scope = {}
    exec("\n".join(line[4:] for line in example.splitlines()), scope)
    inside = eq.interior(26, 26, margin=5)
    assert scope["errors"].over(inside).max() < 1e-6
    assert scope["errors"].over(~inside).min() > 0.01
    assert scope["turned"].over(eq.disc(26, 1)).min() > 0.01
