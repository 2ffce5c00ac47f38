"""Batched views against the transforms that Lightly makes from PIL images."""

import numpy as np
import pytest
import torch
from lightly.transforms import AIMTransform, MAETransform, MoCoV2Transform, SimCLRTransform
from PIL import Image, ImageFilter
from torchvision.transforms import v2

from fewlabels import data
from fewlabels.data import views
from fewlabels.data.images import channel_statistics
from fewlabels.data.views import View
from fewlabels.errors import UserError
from fewlabels.learn.pretext import simclr


@pytest.fixture(scope="module")
def images():
    return data.load("cells").train.images


def pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


@pytest.mark.parametrize("size", [28, 56, 14])
@pytest.mark.parametrize("bicubic", [False, True])
def test_a_resized_crop_is_pils_to_a_grey_level(images, size, bicubic):
    box = torch.tensor([3.0, 5.0]), torch.tensor([20.0, 11.0])
    down, across = (
        views.resize_weights(box[0][k : k + 1], box[1][k : k + 1], 28, size, bicubic)
        for k in range(2)
    )
    ours = (down @ images[0].float() @ across.transpose(1, 2)).clamp(0, 255)
    filter = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    theirs = pil(images[0]).crop((5, 3, 16, 23)).resize((size, size), filter)
    # PIL rounds to whole levels after each of its two passes.
    assert (ours - tensor(theirs)).abs().max() <= 1.5


def test_boxes_have_the_moments_of_torchvisions():
    torch.manual_seed(0)
    ours = views.crop_boxes(4000, 28, 28, 0.08, torch.device("cpu")).double()
    crop = v2.RandomResizedCrop(28, scale=(0.08, 1.0))
    drawn = [crop.make_params([torch.zeros(3, 28, 28)]) for _ in range(4000)]
    theirs = torch.tensor([[d[k] for k in ("top", "left", "height", "width")] for d in drawn])
    theirs = theirs.double()
    assert ours.amin(dim=0).tolist() == theirs.amin(dim=0).tolist()
    assert ours.amax(dim=0)[2:].tolist() == theirs.amax(dim=0)[2:].tolist()
    # A mean of 4,000 draws with a deviation of about 5 pixels has a standard error of 0.08.
    assert (ours.mean(dim=0) - theirs.mean(dim=0)).abs().max() < 0.5
    assert (ours.std(dim=0) - theirs.std(dim=0)).abs().max() < 0.4
    assert (torch.corrcoef(ours.T) - torch.corrcoef(theirs.T)).abs().max() < 0.08


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.13, 0.5])
def test_hue_is_torchvisions(images, shift):
    some = images[:8].float() / 255
    theirs = v2.functional.adjust_hue(some, shift)
    ours = views.hue_shifted(some, torch.full((8,), shift))
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "name"), [(0, "brightness"), (1, "contrast"), (2, "saturation")])
@pytest.mark.parametrize("factor", [0.2, 1.0, 1.7])
def test_each_colour_change_is_torchvisions(images, kind, name, factor):
    some = images[:8].float() / 255
    theirs = getattr(v2.functional, f"adjust_{name}")(some, factor)
    ours = views._blended(some, torch.full((8, 1), kind), torch.full((8, 1), factor))
    # torchvision rounds the weight of red to 0.2989.
    assert (ours - theirs).abs().max() < 2e-4


def test_blur_is_pils_up_to_its_approximation(images):
    ours = views.blurred(images[:1].float(), (1.5, 1.5))[0]
    theirs = tensor(pil(images[0]).filter(ImageFilter.GaussianBlur(1.5)))
    # PIL approximates the Gaussian by three boxes.
    assert (ours - theirs).abs().mean() < 1
    assert torch.allclose(views.blurred(torch.ones(2, 3, 9, 9), (0.1, 2)), torch.ones(1))


def test_jitter_of_strength_zero_changes_nothing(images):
    some = images[:10].float() / 255
    assert torch.allclose(views.colour_jitter(some, 1.0, (0, 0, 0), 0.0), some)
    assert torch.allclose(views.colour_jitter(some, 0.0, (1, 1, 1), 0.5), some, atol=1e-5)


def test_every_image_has_parameters_of_its_own(images):
    torch.manual_seed(0)
    same = images[:1].expand(64, -1, -1, -1)
    views = simclr.view("report", 28, blur=True)(same)
    assert len({view.numpy().tobytes() for view in views}) == 64


def theirs_of(transform, images, repeats):
    pictures = [pil(image) for image in images]
    return torch.stack([transform(p)[0] for _ in range(repeats) for p in pictures])


@pytest.mark.parametrize("name", ["simclr", "simclr, blurred", "moco", "mae", "aim"])
def test_views_have_the_moments_of_lightlys(images, name):
    from fewlabels.learn.pretext import aim, mae, moco

    ours, transform = {
        "simclr": lambda: (
            simclr.view("report", 28, blur=False),
            SimCLRTransform(28, gaussian_blur=0.0),
        ),
        "simclr, blurred": lambda: (
            simclr.view("report", 28, blur=True),
            SimCLRTransform(28, gaussian_blur=0.5),
        ),
        "moco": lambda: (
            moco.view("report", 28, blur=False),
            MoCoV2Transform(28, gaussian_blur=0.0),
        ),
        "mae": lambda: (mae.view("report", 56), MAETransform(56)),
        "aim": lambda: (aim.view("report", 28), AIMTransform(28)),
    }[name]()
    torch.manual_seed(0)
    np.random.seed(0)
    a = ours(images[:40].repeat(20, 1, 1, 1)).double()
    b = theirs_of(transform, images[:40], 20).double()
    # Per image: its mean in each channel, its deviation, how it differs left from right and up
    # from down, and how rough it is. 800 images each.
    half = a.shape[-1] // 2
    for measure in (
        lambda x: x.mean(dim=(2, 3)),
        lambda x: x.std(dim=(2, 3)),
        lambda x: (x[..., :half].mean(dim=(2, 3)) - x[..., half:].mean(dim=(2, 3))).abs(),
        lambda x: (x[:, :, :half].mean(dim=(2, 3)) - x[:, :, half:].mean(dim=(2, 3))).abs(),
        lambda x: x.diff(dim=3).abs().mean(dim=(2, 3)),
    ):
        one, other = measure(a), measure(b)
        error = (one.var(dim=0) / len(one) + other.var(dim=0) / len(other)).sqrt()
        assert ((one.mean(dim=0) - other.mean(dim=0)).abs() < 4.5 * error + 0.01).all()
        spread = one.std(dim=0) / other.std(dim=0)
        assert ((spread > 0.85) & (spread < 1.18)).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_jitter_applies_each_of_its_four_changes_once(count, monkeypatch):
    monkeypatch.setattr(
        views,
        "_blended",
        lambda images, kind, factor: images + (10.0 ** (kind + 1)).view(-1, 1, 1, 1),
    )
    monkeypatch.setattr(views, "hue_shifted", lambda images, shift: images + 1)
    images = torch.zeros(count, 3, 2, 2)
    assert (views.colour_jitter(images, 1.0, (0.4, 0.4, 0.4), hue=0.1) == 1111).all()
    assert (views.colour_jitter(images, 1.0, (0.4, 0.4, 0.4), hue=0.0) == 1110).all()


@pytest.mark.parametrize("images", [torch.rand(2, 3, 28, 28), torch.zeros(3, 28, 28).byte()])
def test_a_view_takes_bytes_alone(images):
    """Values in 0..1 would be divided by 255 once more, and come out black."""
    with pytest.raises(UserError, match=r"pass uint8 \[N, C, H, W\]"):
        View(28)(images)
    with pytest.raises(UserError, match=r"pass uint8"):
        channel_statistics(images)
