"""Runs of chapter 4 on image files that the network never saw, and the network that names them."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.fabric import Fabric
from PIL import Image, ImageDraw, ImageOps
from sklearn.datasets import load_sample_image

from fewlabels.data import photographs
from fewlabels.kinds.measured import placed
from fewlabels.kinds.photograph_features import FeatureClassification, Headed
from fewlabels.nets.blocks import Concatenated
from fewlabels.nets.recogniser import Recogniser
from fewlabels.runs.records import Outcome, Store


@dataclass(frozen=True)
class Recognition(Headed, kind="recognition", recipe=1):
    """Photographs the network never saw, as files of many kinds (section 1.7).

    The test photographs are written to files and read back by the `Recogniser` that
    ``fewlabels classify`` uses; so are two photographs that show none of the classes.
    """

    def cell(self) -> dict[str, str | int]:
        own = self.head.cell()
        return own | {"method": f"{own['method']}, image files"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.head
        recogniser = recogniser_of(own, fabric, store)
        everyone = photographs.decoded(own.dataset, own.classes)
        _, score = own.positions()
        metrics, kept = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            for kind, write in FILES.items():
                found = []
                for position in score.tolist():
                    _, label, picture = everyone[position]
                    answer = recogniser(write(picture.image, path))
                    found.append((answer.ranking[0][0] == own.classes[label], answer.ranking[0][1]))
                right, confidence = np.array(found, dtype=float).T
                metrics[f"accuracy, {kind}"] = float(right.mean())
                metrics[f"confidence, {kind}"] = float(confidence.mean())
                kept[f"right, {kind}"] = right.astype(np.uint8)
                kept[f"confidence, {kind}"] = confidence.astype(np.float16)
            for name in STRANGERS:
                shown = Image.fromarray(load_sample_image(name))
                answer = recogniser(_saved(shown, path / name))
                found = dict(answer.ranking)
                kept[f"probabilities, {name}"] = np.array(
                    [found[each] for each in own.classes], dtype=np.float16
                )
        return Outcome(metrics, predictions=kept)


def recogniser_of(head: FeatureClassification, fabric: Fabric, store: Store) -> Recogniser:
    """The network and the trained MLP as one, for image files; trained first if need be."""
    network = Concatenated(head.network(), head.head(store.weights(head, fabric)))
    return Recogniser(placed(network, fabric), head.classes, head.size, fabric.device)


def _saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def _sideways(image: Image.Image, path: Path, noted: bool) -> Path:
    exif = Image.Exif()
    if noted:
        exif[0x0112] = 6  # "turn me a quarter clockwise"
    turned = image.transpose(Image.Transpose.ROTATE_90)
    return _saved(turned, path / "x.jpg", quality=95, exif=exif)


def _cut_out(image: Image.Image, path: Path) -> Path:
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).ellipse([0, 0, *image.size], fill=255)
    image = image.copy()
    image.putalpha(mask)
    return _saved(image, path / "x.png")


STRANGERS = ("china.jpg", "flower.jpg")
"""Photographs that come with scikit-learn: a temple and a flower."""
FILES: dict[str, Callable[[Image.Image, Path], Path]] = {
    "as it is": lambda image, path: _saved(image, path / "x.png"),
    "grey": lambda image, path: _saved(image.convert("L"), path / "x.png"),
    "sideways, noted in the file": lambda image, path: _sideways(image, path, noted=True),
    "sideways, not noted": lambda image, path: _sideways(image, path, noted=False),
    "upside down": lambda image, path: _saved(ImageOps.flip(image), path / "x.png"),
    "mirrored": lambda image, path: _saved(ImageOps.mirror(image), path / "x.png"),
    "JPEG of quality 10": lambda image, path: _saved(image, path / "x.jpg", quality=10),
    "64 pixels wide": lambda image, path: _saved(
        image.resize((64, max(16, 64 * image.height // image.width))), path / "x.png"
    ),
    "corners transparent": _cut_out,
}
"""How a test photograph is written to a file before it is recognised."""
