import hashlib
import lzma
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from fewlabels.chapters import chest_xray_transfer as third
from fewlabels.chapters import few_data_caltech, profiles
from fewlabels.errors import UserError
from fewlabels.learn import features
from fewlabels.learn.features import View
from fewlabels.nets import pretrained
from fewlabels.nets.maps import last_maps
from fewlabels.nets.pretrained import (
    TORCHVISION,
    Pretrained,
    backbone,
    split,
)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 1, 64, 64), generator=generator, dtype=torch.uint8)


@pytest.fixture
def weights(tmp_path):
    """A ResNet-18 with weights of its own, as a float16 state dict."""
    torch.manual_seed(1)
    network = models.resnet18(weights=None).eval()
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    path = tmp_path / "own.pth"
    torch.save(state, path)
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    )
    return network, path


def test_a_local_file_gives_the_network_it_was_saved_from(weights, images):
    network, path = weights
    own = backbone(Pretrained("resnet18", str(path))).eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    network.fc = nn.Identity()
    with torch.no_grad():
        expected = network((images.expand(-1, 3, -1, -1) / 255 - mean) / deviation)
        assert own.features == 512
        assert torch.allclose(own(images), expected, atol=1e-4)
    assert next(own.parameters()).dtype == torch.float32


def test_symmetric_normalisation_is_x_over_127_5_minus_1(weights):
    own = backbone(Pretrained("resnet18", str(weights[1]), normalisation="symmetric"))
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert torch.allclose(own.normalised(pixels)[:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))


def test_xz_files_are_unpacked(weights, images, tmp_path):
    path = tmp_path / "own.pth.xz"
    path.write_bytes(lzma.compress(weights[1].read_bytes(), preset=0))
    packed, plain = (backbone(Pretrained("resnet18", str(p))).eval() for p in (path, weights[1]))
    with torch.no_grad():
        assert torch.equal(packed(images), plain(images))


def test_a_name_is_looked_up_in_the_data_folder(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    weights[1].rename(tmp_path / "weights" / "mine.pth")
    source = Pretrained("resnet18", "mine.pth")
    assert backbone(source).features == 512
    assert len(source.checksum) == 64


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("squeezenet1_0", 512), ("mobilenet_v2", 1280), ("googlenet", 1024), ("resnet18", 512)],
)
def test_the_last_layer_is_taken_off(architecture, size, images):
    network = backbone(Pretrained(architecture, "random"))
    assert network.features == size
    assert network.train()(images).shape == (5, size)


@pytest.mark.parametrize("moving", [False, True])
def test_batch_norm_moves_only_where_it_is_asked_to(images, moving):
    network = backbone(Pretrained("resnet18", "random"))
    network.moving = moving
    network.train()
    before = network.body.bn1.running_mean.clone()
    network(images)
    assert network.training
    assert torch.equal(network.body.bn1.running_mean, before) != moving


def test_a_split_resnet_computes_the_same_features(images):
    network = backbone(Pretrained("resnet18", "random")).eval()
    with torch.no_grad():
        for trained in (1, 2):
            first, last = split(network, trained)
            assert torch.allclose(last(first(images)), network(images), atol=1e-5)
    count = sum(p.numel() for p in split(network, 1)[1].parameters())
    # Two blocks of two 3 x 3 convolutions, a 1 x 1 short cut, five batch norms of 2 x 512.
    assert count == 9 * 512 * (256 + 3 * 512) + 256 * 512 + 5 * 1024


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "wide_resnet50_2"])
def test_the_layer_of_residual_networks_is_known_without_a_pass(name, monkeypatch):
    monkeypatch.setattr(pretrained, "RESNETS", ("none",))
    assert last_maps.__wrapped__(name, 64) == "layer4"
    assert last_maps.__wrapped__(name, 32) != "layer4"  # 1 x 1 there.


LAYERS = {
    **{"alexnet": "avgpool", "vgg11": "avgpool", "densenet121": "features"},
    **{"googlenet": "inception5b", "inception_v3": "Mixed_7c", "mobilenet_v3_small": "features"},
    **{"squeezenet1_1": "classifier.2", "regnet_y_128gf": "trunk_output"},
    **{"swin_t": "permute", "convnext_tiny": "features", "shufflenet_v2_x0_5": "conv5"},
    "maxvit_t": "blocks.3",
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_last_maps_are_found_by_what_modules_put_out(name):
    assert last_maps(name, 224) == LAYERS[name]


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("vit_b_16", 224, "ends in tokens"),
        ("vit_b_16", 64, "size is 64, which .* does not take"),
        ("swin_t", 32, "ends in tokens"),
        ("inception_v3", 64, "size is 64, which .* does not take"),
        ("maxvit_t", 64, "size is 64, which .* does not take"),
        ("alexnet", 32, "size is 32, which .* does not take"),
    ],
)
def test_a_network_without_maps_is_refused_before_any_training(name, size, told):
    with pytest.raises(UserError, match=told):
        last_maps(name, size)
    from fewlabels.chapters import profiles

    with pytest.raises(UserError, match=told):
        profiles.settings("chest-xray-transfer", "smoke", architecture=name, size=size)


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet121", "squeezenet1_1", "mnasnet0_5"])
@pytest.mark.parametrize("change", ["as it is", "DataParallel", "other classes", "no last layer"])
def test_a_weights_file_of_the_same_body_is_taken(name, change, tmp_path):
    torch.manual_seed(1)
    options = {"num_classes": 7} if change == "other classes" else {}
    network = models.get_model(name, weights=None, **options)
    state = network.state_dict()
    last = pretrained._last_layer(network)[0]
    if change == "DataParallel":
        state = {f"module.{key}": tensor for key, tensor in state.items()}
    if change == "no last layer":
        state = {key: tensor for key, tensor in state.items() if not key.startswith(last)}
    torch.save(state, tmp_path / "mine.pth")
    own = backbone(Pretrained(name, str(tmp_path / "mine.pth")))
    network.set_submodule(last, nn.Identity())
    for key, tensor in network.state_dict().items():
        assert torch.equal(own.body.state_dict()[key], tensor)


def test_old_names_within_a_densenet_are_known(tmp_path):
    state = models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(norm|conv)([12]\.)", r"\1.\2", key): t for key, t in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    backbone(Pretrained("densenet121", str(tmp_path / "old.pth")))


def test_the_first_tensors_that_differ_are_named(tmp_path):
    state = models.resnet18(weights=None).state_dict()
    del state["layer1.0.conv1.weight"]
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    state["more"] = torch.zeros(2)
    torch.save(state, tmp_path / "mine.pth")
    told = r"conv1.weight is \[64, 3, 3, 3\] in the file and \[64, 3, 7, 7\] in the network"
    with pytest.raises(UserError, match=rf"{told} \(and 2 more\)"):
        backbone(Pretrained("resnet18", str(tmp_path / "mine.pth")))


def refusal(*arguments, **settings):
    with pytest.raises(UserError) as error:
        backbone(Pretrained(*arguments, **settings))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refusals_name_the_thing_and_the_remedy(weights, tmp_path):
    assert "resnet18" in refusal("resnet19")
    assert "imagenet, symmetric" in refusal("resnet18", normalisation="other")
    missing = refusal("resnet18", str(tmp_path / "missing.pth"))
    assert "missing.pth is missing" in missing and "write torchvision instead" in missing
    assert "does not fit resnet34" in refusal("resnet34", str(weights[1]))
    assert "is for resnet50, not for resnet18" in refusal("resnet18", "resnet50_imagenet_pq.pth.xz")
    broken = tmp_path / "broken.pth.xz"
    broken.write_bytes(b"no archive")
    assert "cannot be read as weights" in refusal("resnet18", str(broken))
    torch.save([1, 2], tmp_path / "list.pth")
    assert "no state dict" in refusal("resnet18", str(tmp_path / "list.pth"))


def test_a_known_file_with_other_content_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    weights[1].rename(tmp_path / "weights" / "resnet18_imagenet_pq.pth.xz")
    assert "not the file the book was made with" in refusal(
        "resnet18", "resnet18_imagenet_pq.pth.xz"
    )
    assert pretrained.at_hand("resnet18") == "resnet18_imagenet_pq.pth.xz"
    assert pretrained.at_hand("vgg16") == "torchvision"


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def bomb(tmp_path):
    """A file of weights that would run code, and what shows that it has."""
    torch.save({"fc.weight": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    yield tmp_path / "bomb.pth"
    assert not (tmp_path / "exploded").exists()


def test_a_local_file_that_holds_code_is_refused(bomb):
    assert "cannot be read as weights (UnpicklingError" in refusal("resnet18", str(bomb))


def test_a_file_in_the_place_of_torchvisions_is_refused(bomb, tmp_path, monkeypatch, cache):
    place = tmp_path / "cache/weights/torchvision"
    place.mkdir(parents=True)
    name = Pretrained("resnet18").checksum
    bomb.rename(place / name)
    assert f"{name} is not torchvision's file: its sha256 is" in refusal("resnet18")
    # Where its checksum were the one that its name begins with, it would not be run either.
    digest = hashlib.sha256((place / name).read_bytes()).hexdigest()[:8]
    entry = SimpleNamespace(url=f"https://x.org/resnet18-{digest}.pth")
    monkeypatch.setattr(pretrained, "_default", lambda architecture: entry)
    (place / name).rename(place / f"resnet18-{digest}.pth")
    assert "cannot be read as weights (UnpicklingError" in refusal("resnet18")


def test_torchvisions_weights_are_used_where_they_are_whole(weights, tmp_path, monkeypatch, cache):
    network, path = weights
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    url = f"https://x.org/resnet18-{digest}.pth"
    own = pretrained._default("resnet18")
    entry = SimpleNamespace(url=url, transforms=own.transforms)
    monkeypatch.setattr(pretrained, "_default", lambda architecture: entry)

    def fetch(url, target, prefix, progress):
        assert prefix == digest
        shutil.copy(path, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        state = backbone(Pretrained("resnet18")).body.state_dict()
        assert torch.equal(state["conv1.weight"], network.state_dict()["conv1.weight"])
        monkeypatch.setattr(torch.hub, "download_url_to_file", None)


def test_a_failed_download_names_the_remedies(monkeypatch, cache):
    def offline(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    told = refusal("resnet18")
    assert "no route" in told and "Put resnet18-" in told


def test_captions_can_tell_where_weights_come_from():
    assert "product-quantised" in Pretrained("resnet50", "resnet50_imagenet_pq.pth.xz").title
    assert "IMAGENET1K_V2" in Pretrained("resnet50").title
    assert Pretrained("resnet50").checksum.startswith("resnet50-")
    assert Pretrained("resnet18", "random").title == "resnet18, random weights"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))


def test_features_are_computed_once_and_per_image(weights, images, cache):
    source = Pretrained("resnet18", str(weights[1]))
    calls = []

    def network():
        calls.append(1)
        return backbone(source)

    first = features.frozen(source, network, images, "cpu", batch_size=2)
    again = features.frozen(source, network, images, "cpu", batch_size=2)
    assert len(calls) == 1
    assert torch.equal(first, again)
    whole = features.extract(backbone(source), images, "cpu", batch_size=5)
    assert torch.allclose(first, whole, atol=1e-4)
    features.frozen(source, network, images + 1, "cpu")
    features.frozen(source, network, images, "cpu", View("brighter", lambda x: x + 1))
    other = Pretrained("resnet18", str(weights[1].with_name("other.pth")))
    torch.save(backbone_state(), weights[1].with_name("other.pth"))
    features.frozen(other, lambda: network(), images, "cpu")
    assert len(calls) == 4


@pytest.mark.parametrize("damage", ["cut", "other images", "one byte"])
def test_damaged_features_are_computed_again(weights, images, cache, tmp_path, damage):
    source = Pretrained("resnet18", str(weights[1]))
    first = features.frozen(source, lambda: backbone(source), images, "cpu")
    (kept,) = (tmp_path / "cache/features").glob("*.pt")
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:1000])
    elif damage == "one byte":
        content = bytearray(kept.read_bytes())
        content[content.index(first.numpy().tobytes()) + 2000] ^= 1
        kept.write_bytes(content)
        assert not torch.equal(torch.load(kept), first)
    else:
        torch.save(first[1:], kept)
    with pytest.warns(UserWarning, match=f"{kept.name} was moved to .*set-aside"):
        again = features.frozen(source, lambda: backbone(source), images, "cpu")
    assert torch.equal(again, first)
    assert torch.equal(features.frozen(source, None, images, "cpu"), first)


def backbone_state():
    torch.manual_seed(2)
    return models.resnet18(weights=None).state_dict()


def test_a_random_view_repeats_with_its_seed_and_leaves_the_generator_alone(images):
    network = nn.Flatten()
    noisy = View("noise", lambda x: x + torch.rand(len(x), 1, 1, 1), seed=3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = features.extract(network, images, "cpu", noisy)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, features.extract(network, images, "cpu", noisy))
    other = View("noise", noisy.transform, seed=4)
    assert not torch.equal(first, features.extract(network, images, "cpu", other))


def test_torchvision_in_place_of_a_files_name_means_its_own_weights():
    changed = {"weights": TORCHVISION, "fine_tuned_weights": TORCHVISION}
    own = profiles.settings(third.NAME, **changed)
    sources = [third.frozen_source(own), third.fine_tuned_source(own)]
    fourth = profiles.settings("few-data-caltech", networks=["resnet18:torchvision"])
    sources += few_data_caltech.networks(fourth)
    assert [source.weights for source in sources] == [TORCHVISION] * 3
