"""The pretext methods of chapter 5: losses against independent formulas, and that they learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch.nn import functional as F

from fewlabels import data
from fewlabels.data.views import View
from fewlabels.learn.pretext import aim, mae, vicreg
from fewlabels.learn.pretext.methods import METHODS
from fewlabels.learn.pretext.moco import MoCo
from fewlabels.learn.pretext.simclr import SimCLR
from fewlabels.learn.training import Course, fit
from fewlabels.nets.backbones import backbone
from fewlabels.nets.vit import CausalViT, EveryPosition, LargeHead, MaskedViT, RandomReadout

PLAIN = View(28, flip=0.0)
SHAPE = {"size": 28, "patch": 4, "width": 16, "depth": 2, "heads": 2}


@pytest.fixture(scope="module")
def images():
    return data.load("cells").train.images


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 8, generator=generator).double()


def test_ntxent_is_equation_1_of_simclr(pair):
    network = SimCLR(backbone("resnet18", 28, tiny=True), PLAIN, 0.5, width=8)
    z = torch.cat(list(pair)).numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity = np.exp(z @ z.T / 0.5)
    total = 0
    for i in range(12):
        other = (i + 6) % 12
        total -= np.log(similarity[i, other] / (similarity[i].sum() - similarity[i, i]))
    assert network.loss(*pair).item() == pytest.approx(total / 12)


def test_ntxent_of_equal_views_that_are_orthogonal_has_a_closed_form():
    network = SimCLR(backbone("resnet18", 28, tiny=True), PLAIN, 0.5, width=8)
    z = torch.eye(8)
    # One positive of similarity 1 among 14 negatives of similarity 0.
    expected = np.log((np.exp(2) + 14) / np.exp(2))
    assert network.loss(z, z).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["simclr", "moco", "vicreg"])
def test_both_views_of_an_image_are_drawn_apart(name):
    method = METHODS[name]
    trunk = backbone(method.NETWORKS["report"], 28, tiny=True)
    network = method.build("report", trunk, 28, method.COURSES["report"].recipe(256), blur=False)
    first, second = network.views(torch.randint(256, (8, 3, 28, 28), dtype=torch.uint8))
    assert (first != second).flatten(1).any(dim=1).all()


def test_temperatures_are_those_of_the_source():
    for name in ("simclr", "moco"):
        method = METHODS[name]
        trunk = backbone(method.NETWORKS["report"], 28, tiny=True)
        recipe = method.COURSES["report"].recipe(256)
        assert method.build("report", trunk, 28, recipe, blur=False).temperature == 0.5


def test_infonce_compares_with_the_memory_and_puts_the_keys_in_it(pair):
    query, key = (each.float() for each in pair)
    network = MoCo(backbone("resnet18", 28, tiny=True), PLAIN, 0.2, 10, 5, keys=32, width=8)
    bank = network.memory.clone().numpy()
    q, k = (F.normalize(each, dim=1).numpy() for each in (query, key))
    positive = np.exp((q * k).sum(axis=1) / 0.2)
    negatives = np.exp(q @ bank.T / 0.2).sum(axis=1)
    expected = -np.log(positive / (positive + negatives)).mean()
    assert network.loss(query.requires_grad_(), key).item() == pytest.approx(expected, rel=1e-5)
    after = network.memory.numpy()
    assert np.allclose(after[:6], k, atol=1e-6)
    assert np.array_equal(after[6:], bank[6:])


def test_the_key_encoder_follows_by_a_momentum_that_rises_over_the_epochs(images):
    torch.manual_seed(0)
    network = MoCo(backbone("resnet18", 28, tiny=True), PLAIN, 0.2, 4, 3, keys=32, width=8)
    views = network.views(images[:4])
    rates = []
    for _ in range(12):
        for parameter in network.backbone.parameters():
            parameter.data.fill_(1.0)
        for parameter in network.key_backbone.parameters():
            parameter.data.fill_(0.0)
        network(*views)
        rates.append(next(network.key_backbone.parameters()).flatten()[0].item())
    epochs = np.arange(12) // 3
    # Lightly's half cosine from 0.996 in the first epoch to 1 in the last.
    expected = 1 - (1 - 0.004 * (1 + np.cos(np.pi * epochs / 3)) / 2)
    assert rates == pytest.approx(expected, abs=1e-6)
    network.eval()
    network(*views)
    assert network.step == 12


def test_no_gradient_reaches_the_keys(images):
    network = MoCo(backbone("resnet18", 28, tiny=True), PLAIN, 0.2, 4, 3, keys=32, width=8)
    network.loss(*network(*network.views(images[:8]))).backward()
    assert all(p.grad is None for p in network.key_backbone.parameters())
    assert all(p.grad is not None for p in network.backbone.parameters())


def test_vicreg_is_equation_6(pair):
    a, b = (each.numpy() for each in pair)
    variance = [np.maximum(0, 1 - np.sqrt(x.var(axis=0, ddof=1) + 1e-4)).mean() for x in (a, b)]
    covariance = []
    for x in (a, b):
        c = np.cov(x.T)
        covariance.append(((c**2).sum() - (np.diag(c) ** 2).sum()) / 8)
    # Lightly halves the sum of the variances, as the authors' code does and equation 6 does not.
    expected = 25 * ((a - b) ** 2).mean() + 25 * sum(variance) / 2 + sum(covariance)
    network = vicreg.VICReg(backbone("resnet18", 28, tiny=True), PLAIN, width=8)
    assert network.loss(*pair).item() == pytest.approx(expected)


def masked(images, normalise=False):
    torch.manual_seed(0)
    return mae.MAE(MaskedViT(**SHAPE), PLAIN, width=16, heads=2, normalise=normalise).eval(), images


def test_the_class_token_alone_is_that_of_the_whole_last_block():
    torch.manual_seed(0)
    network = MaskedViT(**SHAPE).double()
    views, weigh = torch.rand(3, 3, 28, 28).double(), torch.randn(3, 16).double()
    trained = {name: each for name, each in network.named_parameters() if each.requires_grad}
    del trained["vit.mask_token"]
    views.requires_grad_()
    given = [views, *trained.values()]
    whole, alone = network.vit(views), network(views)
    torch.testing.assert_close(alone, whole)
    torch.testing.assert_close(
        torch.autograd.grad((alone * weigh).sum(), given),
        torch.autograd.grad((whole * weigh).sum(), given),
    )


@pytest.mark.parametrize("normalise", [False, True])
def test_mae_counts_the_pixels_of_hidden_patches_and_no_others(images, normalise):
    network, some = masked(images[:3], normalise)
    views, kept, hidden = network.views(some)
    assert kept.shape == (3, 13) and hidden.shape == (3, 37)
    assert (kept[:, 0] == 0).all()
    predicted, _ = network(views, kept, hidden)
    total = []
    for n in range(3):
        for place, position in enumerate(hidden[n].tolist()):
            row, column = divmod(position - 1, 7)
            patch = views[n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            patch = patch.permute(1, 2, 0).flatten()
            if normalise:
                patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            total.append((predicted[n, place] - patch).square().mean().item())
    loss = network.loss(*network(views, kept, hidden)).item()
    assert loss == pytest.approx(np.mean(total), rel=1e-4)


def test_mae_does_not_see_what_is_hidden(images):
    network, some = masked(images[:2])
    views, kept, hidden = network.views(some)
    before, _ = network(views, kept, hidden)
    row, column = divmod(int(hidden[0, 0]) - 1, 7)
    views[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    after, _ = network(views, kept, hidden)
    assert torch.equal(before, after)


def test_a_painting_keeps_the_visible_patches(images):
    network, some = masked(images[:2])
    views, kept, hidden = network.views(some)
    seen, painted = mae.repainted(network, views, kept, hidden)
    for n in range(2):
        for position in range(1, 50):
            row, column = divmod(position - 1, 7)
            where = (n, slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            visible = position in kept[n].tolist()
            assert torch.equal(painted[where], views[where]) == visible
            assert torch.equal(seen[where], views[where] if visible else 0 * views[where])


def causal(following, images):
    torch.manual_seed(0)
    return aim.AIM(CausalViT(**SHAPE), PLAIN, width=16, following=following).eval(), images


@pytest.mark.parametrize("prefix", [0, 5, 20])
def test_a_later_patch_never_changes_an_earlier_prediction(images, prefix):
    network, some = causal(True, images[:1])
    views, _ = network.views(some)
    beyond = (torch.arange(49) >= prefix).unsqueeze(0)
    before = network.predict(views, beyond)
    for patch in (prefix, 30, 48):
        changed = views.clone()
        row, column = divmod(patch, 7)
        changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
        same = (network.predict(changed, beyond) == before).all(dim=2)[0]
        assert same[:patch].all()
        assert not same[patch:].any()
    changed = views.clone()
    changed[:, :, :4, :4] += 1
    assert not (network.predict(changed, beyond) == before).all(dim=2).any()


def test_in_protocol_report_a_prediction_sees_its_own_target_and_in_tuned_it_does_not(images):
    for following in (False, True):
        network, some = causal(following, images[:1])
        views, _ = network.views(some)
        beyond = torch.ones(1, 49, dtype=torch.bool)
        before, target, counted = network(views, beyond)
        changed = views.clone()
        changed[:, :, 16:20, 16:20] *= -1
        after, new_target, _ = network(changed, beyond)
        place = (new_target != target).any(dim=2)[0].nonzero().squeeze(1)
        assert place.tolist() == [31 if following else 32]
        assert (before == after).all(dim=2)[0, place].all() == following
        assert counted.all()


def test_aim_counts_what_lies_beyond_the_prefix_alone(images):
    network, some = causal(True, images[:2])
    views, _ = network.views(some)
    beyond = torch.arange(49) >= torch.tensor([[3], [40]])
    predicted, target, counted = network(views, beyond)
    each = (predicted - target).square().mean(dim=2)
    # Patch k is predicted at position k - 1.
    expected = torch.cat([each[0, 2:], each[1, 39:]]).mean()
    assert network.loss(predicted, target, counted).item() == pytest.approx(expected.item())


def test_positions_pass_through_random_weights_that_stay(images):
    readout = RandomReadout(CausalViT(**SHAPE))
    assert readout.projection.in_features == 49_000
    assert readout(images[:2].float()).shape == (2, 512)
    assert not any(p.requires_grad for p in readout.projection.parameters())


def test_a_large_head_takes_all_positions_and_has_the_printed_size(images):
    trunk = EveryPosition(CausalViT(**SHAPE))
    tokens = trunk(images[:2].float())
    patches, width = trunk.backbone.patches, trunk.backbone.features
    assert tokens.shape == (2, patches * width) == (2, trunk.features)
    assert torch.equal(tokens.view(2, patches, width), trunk.backbone.tokens(images[:2].float()))
    head = LargeHead(patches, width, 8)
    trained = sum(p.numel() for p in head.parameters() if p.requires_grad)
    assert trained == (patches * 1000 + 1) * 235 + (235 + 1) * 8
    assert patches == 49 and round(trained / 1e6, 1) == 11.5
    assert head(tokens).shape == (2, 8)
    # What all images share, and the length of their features, is gone where these are standardised.
    plain, scaled = (LargeHead(patches, width, 8, each).scale for each in (False, True))
    features = 3 + 5 * torch.randn(64, 49_000)
    assert torch.equal(plain(features), features)
    assert scaled(features).mean(dim=0).abs().max() < 1e-4
    assert torch.allclose(scaled(features).var(dim=0, correction=0), torch.ones(49_000), atol=1e-3)


LEARNING = {
    "simclr": 0.3,
    "moco": 0.3,
    "aim": 0.003,
    "mae": 0.003,
    "rotation": 0.1,
    "vicreg": 0.03,
}


@pytest.mark.parametrize("protocol", ["report", "tuned"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_its_loss(images, name, protocol):
    torch.manual_seed(0)
    method = METHODS[name]
    course = replace(
        method.COURSES[protocol],
        epochs=12,
        rate=LEARNING[name],
        batch_size=32,
        momentum=0.9,
        schedule="constant",
        evaluations=10,
    )
    some = images[:96]
    recipe = course.recipe(len(some))
    network = method.build(
        protocol, backbone(method.NETWORKS[protocol], 28, tiny=True), 28, recipe, blur=True
    )
    if name == "moco":
        # The memory starts with random keys; the loss can fall only once it holds real ones.
        network.memory = network.memory[:32]
    if name == "rotation":
        # Turned discs look alike; a gradient from left to right tells the turn.
        ramp = torch.linspace(0, 255, 28).to(torch.uint8)
        some = ramp.expand(96, 3, 28, 28).contiguous()
        network._view = PLAIN
    curves = fit(
        network,
        lambda module, index: network.loss(*module(*network.views(some[index]))),
        len(some),
        recipe,
        Fabric(accelerator="cpu"),
    )
    first = curves["train_loss"][1 if name == "moco" else 0]
    assert curves["train_loss"][-1] < first
    assert np.isfinite(curves["train_loss"]).all()


def test_a_course_counts_its_steps_and_drops_or_keeps_the_last_batch():
    course = Course(epochs=3, rate=0.1, batch_size=32)
    assert (course.recipe(100).steps, course.recipe(100).epoch_steps) == (9, 3)
    kept = replace(course, drop_last=False)
    assert (kept.recipe(100).steps, kept.recipe(100).epoch_steps) == (12, 4)
    # Fewer images than a batch are one batch.
    assert course.recipe(10).batch_size == 10
    assert course.recipe(10).steps == 3


@pytest.mark.parametrize(("drop", "sizes"), [(True, {32}), (False, {32, 4})])
def test_batches_of_an_epoch(drop, sizes):
    seen = []
    network = torch.nn.Linear(1, 1)

    def loss(module, index):
        seen.append(len(index))
        return module(torch.ones(1, 1)).mean()

    recipe = Course(epochs=2, rate=0.1, batch_size=32, drop_last=drop, evaluations=0).recipe(100)
    fit(network, loss, 100, recipe, Fabric(accelerator="cpu"))
    assert set(seen) == sizes and len(seen) == recipe.steps


def test_schedules_move_once_an_epoch():
    from fewlabels.learn.training import _factor

    cosine = Course(epochs=4, rate=0.1, batch_size=10).recipe(30)
    assert [_factor(step, cosine) for step in (0, 2, 3, 6, 11)] == pytest.approx(
        [1, 1, (1 + np.cos(np.pi / 4)) / 2, 0.5, (1 + np.cos(3 * np.pi / 4)) / 2]
    )
    halved = Course(epochs=400, rate=0.05, batch_size=10, schedule="halved").recipe(30)
    assert [_factor(3 * epoch, halved) for epoch in (0, 19, 20, 45, 399)] == [1, 1, 0.5, 0.25, 0.01]
