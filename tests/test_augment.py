import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import gaussian_blur, rotate

from fewlabels.data.augment import affine, cropped, flipped, quarter_turns, rotated, shifted
from fewlabels.data.views import (
    View,
    blurred,
    hue_shifted,
    luminance,
    normalised,
    random_crops,
)
from fewlabels.errors import UserError


@pytest.fixture
def images():
    noise = torch.rand(6, 2, 28, 28, generator=torch.Generator().manual_seed(0))
    return gaussian_blur(noise, [5, 5])


@pytest.fixture
def extreme(monkeypatch):
    """Every random parameter at the upper end of its range."""
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.ones(*size))


def test_quarter_turns_are_rot90_of_every_image(images):
    turns = torch.tensor([3, 0, 1, 2, 1, 3])
    turned = quarter_turns(images, turns)
    for image, k, result in zip(images, turns.tolist(), turned, strict=True):
        assert torch.equal(result, torch.rot90(image, k, dims=(1, 2)))


def test_a_quarter_turn_is_counter_clockwise():
    image = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
    turned = quarter_turns(image, torch.tensor([1]))
    assert turned.view(2, 2).tolist() == [[2, 4], [1, 3]]


def test_affine_with_empty_ranges_is_the_identity(images):
    assert torch.allclose(affine(images, degrees=0, shift=0), images, atol=1e-5)


@pytest.mark.parametrize("degrees", [20, -20, 90])
def test_affine_turns_by_degrees(images, extreme, degrees):
    expected = rotate(images, degrees, InterpolationMode.BILINEAR)
    assert torch.allclose(affine(images, degrees=degrees, shift=0), expected, atol=1e-4)


def test_affine_shifts_by_pixels(images, extreme):
    moved = affine(images, degrees=0, shift=3)
    expected = torch.zeros_like(images)
    # The map goes from output to input: a positive parameter moves the image up and to the left.
    expected[:, :, :-3, :-3] = images[:, :, 3:, 3:]
    assert torch.allclose(moved, expected, atol=1e-4)


def test_affine_zooms_by_the_scale_factor(extreme):
    square = torch.zeros(1, 1, 28, 28)
    square[:, :, 10:18, 10:18] = 1
    zoomed = affine(square, degrees=0, shift=0, zoom=0.5)
    # 8 pixels wide, enlarged by 1.5: 12 wide, 144 in area.
    assert zoomed.sum().item() == pytest.approx(144, rel=0.03)
    assert zoomed[0, 0, 8:20, 8:20].min() > 0.4
    assert zoomed[0, 0, :, :7].max() == 0


def test_affine_shears_rows_against_each_other(extreme):
    line = torch.zeros(1, 1, 28, 28)
    line[..., 13:15] = 1
    sheared = affine(line, degrees=0, shift=0, shear=0.5)[0, 0]
    centre = (sheared * torch.arange(28)).sum(dim=1) / sheared.sum(dim=1)
    # Tangent 0.5: half a pixel to the side for every row down.
    assert (centre[20] - centre[6]).abs().item() == pytest.approx(7, abs=0.05)


def test_affine_draws_fresh_parameters_for_every_image(images):
    torch.manual_seed(0)
    copies = affine(images[:1].expand(8, -1, -1, -1), degrees=20, shift=3, zoom=0.2, shear=0.3)
    for i in range(8):
        for j in range(i):
            assert not torch.allclose(copies[i], copies[j], atol=1e-2)


def test_affine_stays_within_its_ranges():
    # One bright pixel off the centre: its angle tells the rotation of each copy.
    image = torch.zeros(1, 1, 29, 29)
    image[..., 14, 24] = 1
    torch.manual_seed(0)
    turned = affine(image.expand(200, -1, -1, -1), degrees=20, shift=0)[:, 0]
    grid = torch.arange(29.0) - 14
    mass = turned.sum(dim=(1, 2))
    x = (turned.sum(dim=1) * grid).sum(dim=1) / mass
    y = (turned.sum(dim=2) * grid).sum(dim=1) / mass
    angles = torch.atan2(y, x) * 180 / math.pi
    assert angles.abs().max() < 21
    assert angles.max() > 15
    assert angles.min() < -15


def test_shifted_moves_every_image_by_its_own_whole_pixels(images):
    rows, columns = torch.tensor([0, 2, -3, 0, 1, 27]), torch.tensor([0, 0, 0, 4, -1, -27])
    moved = shifted(images, rows, columns)
    assert torch.equal(moved[0], images[0])
    for image, down, right, result in zip(images, rows, columns, moved, strict=True):
        expected = torch.zeros_like(image)
        for row in range(28):
            for column in range(28):
                if 0 <= row - down < 28 and 0 <= column - right < 28:
                    expected[:, row, column] = image[:, row - down, column - right]
        assert torch.equal(result, expected)


def test_affine_follows_the_seed_and_leaves_its_input(images):
    before = images.clone()
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(affine(images, 20, 3, 0.2, 0.3))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(images, before)


def test_affine_can_fill_its_margins_with_the_mirrored_image(extreme):
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    moved = affine(ramp, degrees=0, shift=2, outside="reflection")
    assert torch.allclose(moved[0, 0, 3], torch.tensor([2.0, 3, 4, 5, 6, 7, 7, 6]), atol=1e-5)


@pytest.mark.parametrize(("axis", "dim"), [("horizontal", 3), ("vertical", 2)])
def test_flipped_mirrors_about_half_of_the_images(axis, dim):
    torch.manual_seed(0)
    images = torch.rand(400, 1, 4, 4)
    found = flipped(images, axis)
    mirrored = (found == images.flip(dim)).flatten(1).all(dim=1)
    same = (found == images).flatten(1).all(dim=1)
    assert (mirrored ^ same).all()
    assert 160 < mirrored.sum() < 240


def test_a_crop_of_the_whole_image_is_the_image(images):
    assert torch.allclose(cropped(images, smallest=1), images, atol=1e-5)


def test_a_crop_is_a_window_enlarged(monkeypatch):
    """Half the side, in the right lower corner."""
    drawn = iter([torch.tensor([[0.0], [1.0], [1.0]])])
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: next(drawn))
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4:, 4:] = 1
    image[0, 0, 7, 7] = 5
    found = cropped(image, smallest=0.5)[0, 0]
    assert torch.allclose(found[1:5, 1:5], torch.ones(4, 4))
    assert found[-1, -1] == 5


def test_crops_stay_inside_the_image():
    torch.manual_seed(0)
    images = torch.full((50, 1, 16, 16), 0.4)
    assert torch.allclose(cropped(images, smallest=0.3), images)


GREY, COLOUR, NO_TURN = torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(2).long()
TAKING = {
    "quarter_turns": lambda images: quarter_turns(images, NO_TURN[: len(images)]),
    "rotated": lambda images: rotated(images, torch.zeros(len(images))),
    "affine": lambda images: affine(images, 5, 1),
    "flipped": lambda images: flipped(images, "vertical"),
    "cropped": lambda images: cropped(images, 0.5),
    "shifted": lambda images: shifted(images, *[NO_TURN[: len(images)]] * 2),
    "random_crops": lambda images: random_crops(images, 4, 0.5, 0.5),
    "blurred": lambda images: blurred(images, (0.1, 2.0)),
    "normalised": lambda images: normalised(images, (0.5,) * 3, (0.5,) * 3),
    "luminance": luminance,
    "hue_shifted": lambda images: hue_shifted(images, torch.zeros(len(images))),
}
WHOLE = ("quarter_turns", "flipped", "shifted")
"""These take any type."""


@pytest.mark.parametrize("name", TAKING)
def test_images_without_a_channel_or_of_bytes_and_no_image_are_refused_by_what_they_are(name):
    for images in (COLOUR[:, 0], COLOUR[:0], *([] if name in WHOLE else [COLOUR.byte()])):
        if name == "hue_shifted" and not len(images):
            continue  # A quarter of a small batch.
        with pytest.raises(UserError, match=r"^images are torch") as told:
            TAKING[name](images)
        assert f"{images.dtype} {tuple(images.shape)}: pass" in str(told.value)
    assert len(TAKING[name](COLOUR)) == 2


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: quarter_turns(torch.zeros(2, 1, 4, 5), NO_TURN), r"pass a tensor \[N, C, H, H\]"),
        (lambda: quarter_turns(GREY, NO_TURN[:1]), r"turns has shape \(1,\) for 2 images"),
        (lambda: shifted(GREY, NO_TURN, NO_TURN[:1]), "columns has shape"),
        (lambda: hue_shifted(COLOUR, torch.zeros(3)), "shift has shape"),
        (lambda: affine(GREY, 5, 1, outside="white"), "outside is 'white'; allowed: zeros, ref"),
        (lambda: flipped(GREY, "left"), "axis is 'left'; allowed: horizontal, vertical"),
        (lambda: cropped(GREY, 0), "smallest is 0; allowed: above 0 and at most 1"),
        (lambda: random_crops(GREY, 4, 8, 0.5), "min_scale is 8; allowed"),
        (lambda: random_crops(GREY, 4, 0.5, 50), "flip is 50; allowed: from 0 to 1"),
        (lambda: blurred(GREY, (0.0, 2.0)), r"sigmas are \(0.0, 2.0\)"),
        (lambda: luminance(GREY), r"pass float \[N, 3, H, W\]"),
        (lambda: normalised(torch.zeros(2, 4, 4, 4), (0.5,) * 3, (0.5,) * 3), "images have 4 chan"),
        (lambda: View(28, jitter=80), "jitter is 80; allowed: from 0 to 1"),
        (lambda: View(28.5), "size is 28.5; allowed: a whole number"),
        (lambda: View(28)(torch.zeros(0, 3, 28, 28).byte()), "at least one"),
    ],
)
def test_what_cannot_be_augmented_is_refused(call, told):
    with pytest.raises(UserError, match=told):
        call()


def test_four_quarter_turns_are_none(images):
    turned = quarter_turns(images, torch.tensor([0, 4, 8, -4, 5, -3]))
    assert torch.equal(turned[:4], images[:4])
    assert torch.equal(turned[4:], quarter_turns(images[4:], torch.tensor([1, 1])))
