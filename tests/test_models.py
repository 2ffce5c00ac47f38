import pytest
import torch
from torch import nn

from fewlabels.nets.backbones import backbone
from fewlabels.nets.compact import CompactNet
from fewlabels.nets.frozen import Frozen
from fewlabels.nets.joint import JointNet
from fewlabels.nets.report_rotnet import PlainCNN, RotNet


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def images():
    return torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


# A 3 x 3 convolution has c_in * c_out * 9 weights and c_out biases, a linear layer n * m and m.
ROTNET_CONVOLUTIONS = (
    (1 * 32 * 9 + 32) + 2 * (32 * 32 * 9 + 32) + (32 * 64 * 9 + 64) + 2 * (64 * 64 * 9 + 64)
)
PLAIN_CONVOLUTIONS = (1 * 32 * 9 + 32) + (32 * 32 * 9 + 32)


def test_rotnet_has_the_parameters_of_the_report():
    assert ROTNET_CONVOLUTIONS == 111_168
    assert count(RotNet(4).backbone) == ROTNET_CONVOLUTIONS
    # Pooled twice: 7 x 7 x 64 = 3136 features.
    assert count(RotNet(4)) == 111_168 + (3136 * 1024 + 1024) + (1024 * 4 + 4) == 3_327_556
    assert count(RotNet(10)) == 111_168 + (3136 * 1024 + 1024) + (1024 * 10 + 10) == 3_333_706


def test_plain_cnn_has_the_parameters_of_the_report():
    # Pooled once: 14 x 14 x 32 = 6272 features.
    expected = PLAIN_CONVOLUTIONS + (6272 * 1024 + 1024) + (1024 * 10 + 10)
    assert count(PlainCNN(10)) == expected == 6_443_370


def test_compact_net_has_the_parameters_counted_by_hand():
    # Convolutions without bias, batch norm with two numbers per channel, 3 x 3 x 96 features.
    convolutions = 1 * 24 * 25 + 24 * 48 * 9 + 48 * 96 * 9
    batch_norm = 2 * (24 + 48 + 96)
    assert count(CompactNet(10)) == convolutions + batch_norm + 864 * 10 + 10 == 61_426
    assert count(JointNet(10, auxiliary=4)) == 61_426 + 864 * 4 + 4


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
@pytest.mark.parametrize(("stem", "sides"), [("", (7, 4, 2, 1)), ("-small", (28, 14, 7, 4))])
def test_a_stem_for_small_images_changes_the_maps_and_one_convolution(depth, blocks, stem, sides):
    network = backbone(f"resnet{depth}{stem}", 28).eval()
    found = []
    for stage in range(1, 5):
        layer = getattr(network.network, f"layer{stage}")
        layer.register_forward_hook(lambda module, given, maps: found.append(maps.shape))
    assert network(torch.rand(1, 3, 28, 28)).shape == (1, 512)
    widths = (64, 128, 256, 512)
    assert found == [(1, w, side, side) for w, side in zip(widths, sides, strict=True)]
    # Two 3 x 3 convolutions a block, batch norm with two numbers per channel; a stage that is wider
    # than the one before has a 1 x 1 convolution around its first block.
    expected = 3 * 64 * (9 if stem else 49) + 2 * 64
    for before, width, repeats in zip((64, *widths), widths, blocks, strict=False):
        expected += 9 * before * width + (2 * repeats - 1) * 9 * width**2 + 2 * repeats * 2 * width
        expected += (before * width + 2 * width) * (before != width)
    assert count(network) == expected


@pytest.mark.parametrize("kind", [RotNet, PlainCNN, CompactNet])
@pytest.mark.parametrize("outputs", [4, 10])
def test_networks_are_a_head_on_a_backbone(kind, outputs, images):
    network = kind(outputs).eval()
    logits = network(images)
    assert logits.shape == (6, outputs)
    features = network.backbone(images)
    assert features.dim() == 2
    assert torch.equal(network.head(features), logits)


def test_plain_cnn_drops_half_of_its_hidden_units_in_training(images):
    torch.manual_seed(0)
    network = PlainCNN(10)
    (dropout,) = (layer for layer in network.modules() if isinstance(layer, nn.Dropout))
    assert dropout.p == 0.5
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_the_order_of_layers_is_the_reports(images):
    """Convolution, ReLU, ..., pooling after the third and the sixth convolution."""
    layers = [type(layer).__name__ for layer in RotNet(4).backbone]
    block = ["Conv2d", "ReLU"] * 3 + ["MaxPool2d"]
    assert layers == [*block, *block, "Flatten"]


def test_joint_net_answers_both_tasks_through_one_backbone(images):
    torch.manual_seed(0)
    network = JointNet(10, auxiliary=4).eval()
    main, auxiliary = network(images[:2], images[2:])
    assert main.shape == (2, 10)
    assert auxiliary.shape == (4, 4)
    assert torch.allclose(main, network(images[:2]), atol=1e-6)
    assert torch.allclose(auxiliary, network.auxiliary(network.backbone(images[2:])), atol=1e-6)


def test_joint_net_normalises_both_batches_as_one(images):
    torch.manual_seed(0)
    network = JointNet(10, auxiliary=4)
    main, auxiliary = network(images[:2], images[2:])
    features = network.backbone(images)  # training mode: statistics of all six
    assert torch.allclose(main, network.head(features[:2]), atol=1e-5)
    assert torch.allclose(auxiliary, network.auxiliary(features[2:]), atol=1e-5)


def test_frozen_trains_its_head_alone(images):
    network = CompactNet(10)
    frozen = Frozen(network.backbone, network.head)
    trained = [name for name, p in frozen.named_parameters() if p.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    frozen.train()
    assert frozen.head.training
    frozen(images).sum().backward()
    assert all(p.grad is None for p in frozen.backbone.parameters())
    assert frozen.head.weight.grad is not None


@pytest.mark.parametrize("prepare", [lambda m: m, lambda m: m.train(), lambda m: m.eval()])
def test_a_frozen_backbone_gives_an_image_the_same_features_in_every_batch(prepare, images):
    """From the moment it is made: batch norm must not look at the batch, nor move."""
    torch.manual_seed(0)
    network = CompactNet(10)
    frozen = prepare(Frozen(network.backbone, network.head))
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    with torch.no_grad():
        together, alone = frozen.backbone(images), frozen.backbone(images[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5)
    assert all(torch.equal(before[k], tensor) for k, tensor in frozen.state_dict().items())
