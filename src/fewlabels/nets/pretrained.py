"""torchvision's classifiers with pretrained weights: the backbone, and where its weights come from.

Weights are torchvision's own by default, downloaded into the cache. A local file serves where one
is named: a state dict of the same architecture as ``.pth``, or ``.pth.xz`` (compressed with xz);
weights stored as float16 are used as float32. A backbone takes raw pixels and does its own
normalisation, so that nobody has to remember which weights want which.
"""

import io
import lzma
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from fewlabels import config, files, paths
from fewlabels.errors import UserError
from fewlabels.nets.frozen import keep_statistics

OLD_NAMES = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # x / 127.5 - 1
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation per channel, of pixels in 0..1."""
RESNETS = ("resnet", "resnext", "wide_resnet")
"""How the names of torchvision's residual networks begin."""
TORCHVISION = "torchvision"
RANDOM = "random"


@dataclass(frozen=True)
class WeightFile:
    """A weight file the book was made with: not torchvision's, and captions say so."""

    architecture: str
    sha256: str
    what: str
    """Ends a caption's sentence "..., weights ..."."""
    normalisation: str = "imagenet"


FILES = {
    "resnet50_imagenet_pq.pth.xz": WeightFile(
        "resnet50",
        "8192329242548755974aebe792730dd00913c9b32111ce06bb4333d6b71a685f",
        "trained on ImageNet and product-quantised, not torchvision's",
    ),
    "resnet18_imagenet_pq.pth.xz": WeightFile(
        "resnet18",
        "e869d3aa9904ad1a2bd28aa24036af277ecbc98ce33e3e5482ac07be075e724d",
        "trained on ImageNet and product-quantised, not torchvision's",
    ),
    "mobilenet_v2_imagenet_8bit.pth": WeightFile(
        "mobilenet_v2",
        "9fe6bb548973c61046edeb662d34f39b88519cb3c6bbac47889234f0e41a524d",
        "trained on ImageNet and quantised to 8 bits, not torchvision's",
        normalisation="symmetric",
    ),
    "squeezenet1_0_imagenet_5bit.pth": WeightFile(
        "squeezenet1_0",
        "316dfdd575366145bb910a2dbb90e44d6b04816990fc6476f9827c4bb521d9db",
        "trained on ImageNet and quantised to 5 bits, not torchvision's",
    ),
}


@dataclass(frozen=True)
class Pretrained:
    """An architecture and its weights. Part of a run's config."""

    architecture: str
    """A classifier of ``torchvision.models``, by its name there."""
    weights: str = TORCHVISION
    """``torchvision``: its default ImageNet weights. ``random``: none. Else a file: a path, or a
    name in the folder ``weights`` of ``FEWLABELS_DATA``."""
    normalisation: str = "imagenet"
    """Of a file that is not among ``FILES``; those bring their own."""

    def __post_init__(self):
        if self.architecture not in architectures():
            near = [name for name in architectures() if name[:4] == self.architecture[:4]]
            raise UserError(
                f"architecture is {self.architecture!r}; allowed: a classifier of "
                f"torchvision.models, such as {', '.join(near[:8] or ['resnet50', 'vgg16'])}"
            )
        config.one_of("normalisation", self.normalisation, NORMALISATIONS)
        known = FILES.get(self.weights)
        if known is not None and known.architecture != self.architecture:
            raise UserError(
                f"{self.weights} is for {known.architecture}, not for {self.architecture}"
            )

    @property
    def title(self) -> str:
        """As a caption names it, with the origin of the weights."""
        known = FILES.get(self.weights)
        if known is not None:
            origin = f"weights {known.what} (`{self.weights}`)"
        elif self.weights == TORCHVISION:
            origin = f"torchvision's weights {_default(self.architecture).name}"
        elif self.weights == RANDOM:
            origin = "random weights"
        else:
            origin = f"weights from `{Path(self.weights).name}`"
        return f"{self.architecture}, {origin}"

    @property
    def checksum(self) -> str:
        """Names the weights: sha256 of the file, known for ``FILES`` without reading it; for
        torchvision's, the file's name, which holds the start of its sha256; empty for ``random``.
        """
        if self.weights in FILES:
            return FILES[self.weights].sha256
        if self.weights == TORCHVISION:
            return Path(_default(self.architecture).url).name
        if self.weights == RANDOM:
            return ""
        return files.sha256(find(self.weights))

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation that the input is normalised with, of pixels in 0..1."""
        if self.weights in FILES:
            return NORMALISATIONS[FILES[self.weights].normalisation]
        if self.weights == TORCHVISION:
            preset = _default(self.architecture).transforms()
            return tuple(preset.mean), tuple(preset.std)
        return NORMALISATIONS[self.normalisation]


class Backbone(nn.Module):
    """A pretrained network up to its last layer: raw pixels to features.

    Batch norm stays in evaluation mode, also while other layers are trained: the statistics belong
    to the weights, and small or skewed batches would spoil them. ``moving`` lets it train.
    """

    def __init__(self, body: nn.Module, features: int, statistics):
        super().__init__()
        self.body = body
        self.features = features
        """Length of a feature vector."""
        self.moving = False
        mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) * 255 for each in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        if not self.moving:
            keep_statistics(self)
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """Images [N, 1 or 3, H, W] with values 0..255, uint8 or float, as the weights want them:
        float [N, 3, H, W]."""
        return (images.float().expand(-1, 3, -1, -1) - self.mean) / self.deviation

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 1 or 3, H, W] with values 0..255 to features [N, features]."""
        out = self.body(self.normalised(images))
        # GoogLeNet and Inception return their auxiliary outputs beside it while they train.
        return (out if isinstance(out, Tensor) else out[0]).flatten(1)


@lru_cache(maxsize=1)
def architectures() -> list[str]:
    """The names of torchvision's classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def backbone(source: Pretrained) -> Backbone:
    """The network that ``source`` names, its last layer taken off.

    Random weights are always the same ones.

    Raises:
        UserError: no such weights, a download that failed, a file that is missing, is no state
            dict, is not the one it is named after, or does not fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.get_model(source.architecture, weights=None, **options(source))
    name, last = _last_layer(network)
    if source.weights != RANDOM:
        _load(network, source, name)
    network.set_submodule(name, nn.Identity())
    size = last.in_features if isinstance(last, nn.Linear) else last.in_channels
    return Backbone(network, size, source.statistics)


def tensor_sizes(architecture: str) -> list[int]:
    """Values in every weight tensor of a classifier of torchvision, in order; none is made."""
    with torch.device("meta"):
        network = torchvision.models.get_model(architecture, weights=None)
    return [parameter.numel() for parameter in network.parameters()]


def split(backbone: Backbone, trained: int) -> tuple[nn.Module, nn.Module]:
    """A ResNet as two modules, (first, last): the last holds its final ``trained`` stages.

    ``last(first(images))`` are the features; where only ``last`` is trained, the outputs of
    ``first`` can be computed once and kept.

    Raises:
        UserError: not a ResNet, or ``trained`` not in 1..4.
    """
    if not isinstance(backbone.body, torchvision.models.ResNet):
        raise UserError("only a ResNet can be split into its stages; choose one, as resnet18")
    config.whole("trained", trained, 1, 4)
    children = dict(backbone.body.named_children())
    cut = f"layer{5 - trained}"
    names = list(children)
    at = names.index(cut)
    # The last child is the place of the classifier.
    first = _Normalised(backbone, nn.Sequential(*(children[name] for name in names[:at])))
    last = nn.Sequential(*(children[name] for name in names[at:-1]), nn.Flatten())
    return first, last


class _Normalised(nn.Module):
    """Raw pixels through a backbone's normalisation and its first layers."""

    def __init__(self, backbone: Backbone, layers: nn.Module):
        super().__init__()
        self.backbone, self.layers = backbone, layers

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.backbone.normalised(images))


def find(weights: str) -> Path:
    """The weight file of this path, or of this name in ``FEWLABELS_DATA/weights``.

    Raises:
        UserError: it is in neither place.
    """
    places = [paths.at_home(weights)]
    if folder := paths.given():
        places.append(folder / "weights" / weights)
    for place in places:
        if place.is_file():
            return place
    where = " or ".join(str(place) for place in places)
    raise UserError(
        f"the weight file {where} is missing: put it there, name the folder above `weights` in "
        f"FEWLABELS_DATA, or write {TORCHVISION} instead of the file's name in the parameter that "
        "has it, for torchvision's own weights, which are downloaded."
    )


def at_hand(architecture: str) -> str:
    """A file of ``FILES`` for the architecture that is here, else ``torchvision``."""
    folder = paths.given()
    for name, file in FILES.items():
        here = folder and (folder / "weights" / name).is_file()
        if file.architecture == architecture and here:
            return name
    return TORCHVISION


def _load(network: nn.Module, source: Pretrained, last: str) -> None:
    """Load all weights but those of the layer ``last``, which is taken off."""
    state = _downloaded(source) if source.weights == TORCHVISION else _read(source)
    # DataParallel puts a word before every name, and old DenseNets a dot within some.
    state = {OLD_NAMES.sub(r"\1\2", k.removeprefix("module.")): t for k, t in state.items()}
    wanted = network.state_dict()
    for name in wanted:
        if name.endswith("num_batches_tracked"):  # Counted since 2018; evaluation needs none.
            state.setdefault(name, wanted[name])
    odd = [
        f"{name} is {_shape(state.get(name))} in the file and {_shape(wanted.get(name))} in the "
        "network"
        for name in dict.fromkeys([*wanted, *state])
        if not name.startswith(f"{last}.") and _shape(state.get(name)) != _shape(wanted.get(name))
    ]
    if odd:
        more = f" (and {len(odd) - 1} more)" if odd[1:] else ""
        raise UserError(
            f"{source.weights} does not fit {source.architecture}: {odd[0]}{more}. Name the "
            "architecture that the file was made with."
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            if not name.startswith(f"{last}."):
                tensor.copy_(state[name])


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))


def _downloaded(source: Pretrained) -> dict[str, Tensor]:
    url = _default(source.architecture).url
    path = files.folder(paths.cache() / "weights" / "torchvision") / Path(url).name
    # torchvision's names hold the start of the sha256: "resnet18-f37072fd.pth".
    digest = path.stem.rsplit("-", 1)[1]
    if not path.exists():
        what = f"torchvision's weights of {source.architecture}"
        otherwise = f"Put {path.name} into {path.parent}, or name a local file as weights."
        with files.download(path, what, otherwise):
            if not path.exists():
                torch.hub.download_url_to_file(url, str(path), digest, progress=False)
    if not (found := files.sha256(path)).startswith(digest):
        raise UserError(
            f"{path} is not torchvision's file: its sha256 is {found}, expected one that begins "
            f"with {digest}. Delete it, and it is downloaded again."
        )
    return _state(path)


def _read(source: Pretrained) -> dict[str, Tensor]:
    path = find(source.weights)
    known = FILES.get(source.weights)
    if known is not None and files.sha256(path) != known.sha256:
        raise UserError(
            f"{path} is not the file the book was made with: its sha256 is {files.sha256(path)}, "
            f"expected {known.sha256}. Fetch it again, or give it another name."
        )
    return _state(path)


def _state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, which may come from anywhere: nothing in it is executed."""
    try:
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch and lzma raise a dozen kinds for a broken file.
        reason = str(error).split("\n")[0][:120]
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}); allowed: a "
            "state dict saved by torch, as .pth, or compressed as .pth.xz"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{path} holds no state dict: save network.state_dict() with torch.save")
    return state


def _last_layer(network: nn.Module) -> tuple[str, nn.Module]:
    """The classifier's last layer, a linear one (SqueezeNet: a 1 x 1 convolution)."""
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return layers[-1]


def options(source: Pretrained) -> dict[str, bool]:
    """What GoogLeNet and Inception need to be told: their weights take another normalisation,
    which they bring about themselves."""
    if source.architecture not in ("googlenet", "inception_v3"):
        return {}
    own = source.weights == TORCHVISION
    return {"init_weights": source.weights == RANDOM, "transform_input": own}


def _default(architecture: str):
    return torchvision.models.get_model_weights(architecture).DEFAULT
