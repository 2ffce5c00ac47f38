"""Runs of chapter 3 that ask of images and trained heads; see `fewlabels.kinds.chest_xray`."""

from dataclasses import dataclass, field

import numpy as np
import torch
from captum.attr import LayerGradCam
from lightning.fabric import Fabric
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.data import pneumonia_mnist
from fewlabels.data.xrays import CLASSES, patient
from fewlabels.errors import UserError
from fewlabels.kinds.chest_xray import HeadTraining, frozen_features, weights_checksum, whole, xrays
from fewlabels.nets.pretrained import Pretrained, backbone
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store


@dataclass(frozen=True)
class DomainShift(Experiment, kind="xray-shift", recipe=1):
    """Can a linear classifier tell the test images of a class from its training images?

    Within one class the task is impossible where both parts come from one population: an area
    under the ROC curve of one half. The control draws as many training patients' images instead of
    test images. Features are those of the frozen backbone; five folds, by patient.
    """

    seed: int
    label: int
    """0 normal, 1 pneumonia."""
    control: bool
    source: Pretrained
    size: int = 224

    def __post_init__(self):
        config.one_of("label", self.label, (0, 1))
        config.whole("seed", self.seed, 0)

    def cell(self) -> dict[str, str | int]:
        cls = CLASSES[self.label]
        against = "held-out training images" if self.control else "test images"
        return self.row("all", f"{cls}: training against {against}", "frozen", "tuned")

    def checksums(self) -> dict[str, str]:
        return super().checksums() | weights_checksum(self.source)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        images = data.chest(self.dataset)
        train, test = (
            frozen_features(self.dataset, part, self.source, self.size, "whole", fabric.device)
            for part in ("train", "test")
        )
        here = (images.train.labels == self.label).nonzero().squeeze(1)
        there = (images.test.labels == self.label).nonzero().squeeze(1)
        files = images.train_files or tuple(str(i) for i in range(len(train)))
        test_files = images.test_files or tuple(f"test {i}" for i in range(len(test)))
        groups = [patient(files[i]) for i in here.tolist()]
        rng = np.random.default_rng(self.seed)
        if self.control:
            order = rng.permutation(sorted(set(groups))).tolist()
            other, count = set(), 0
            while count < min(len(there), len(here) // 4) or len(other) < 2:
                other.add(order.pop())
                count = sum(group in other for group in groups)
            truth = np.array([group in other for group in groups]).astype(int)
            known = train[here.to(train.device)]
        else:
            truth = np.array([0] * len(here) + [1] * len(there))
            groups += [f"test {patient(test_files[i])}" for i in there.tolist()]
            known = torch.cat([train[here.to(train.device)], test[there.to(test.device)]])
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=1e-3, max_iter=200, class_weight="balanced")
        )
        folds = GroupKFold(5, shuffle=True, random_state=self.seed)
        scored = cross_val_predict(
            model, known.cpu().numpy(), truth, groups=groups, cv=folds, method="decision_function"
        )
        return Outcome({"auc": float(roc_auc_score(truth, scored))})


@dataclass(frozen=True)
class Heatmaps(Experiment, kind="xray-heatmaps", recipe=1):
    """Where a trained head looks: Grad-CAM (Selvaraju et al. 2017) at the backbone's last maps.

    For as many test images of every true and predicted class as there are, up to ``each``; for the
    class that was predicted.
    """

    head: HeadTraining
    each: int = 20
    shown: int = 3
    """Maps of every group that the record keeps."""
    layer: str = field(default="layer4", metadata=ADDED)
    """Module that puts out the maps, see `fewlabels.nets.maps.last_maps`."""

    def cell(self) -> dict[str, str | int]:
        return self.head.cell() | {"method": f"Grad-CAM of {self.head.source.architecture}"}

    def checksums(self) -> dict[str, str]:
        return self.head.checksums()

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.head
        torch.manual_seed(own.seed)
        images = xrays(own.dataset, own.classes).test
        state = store.weights(own, fabric)
        body = backbone(own.source)
        network = Scored(body, state).to(fabric.device).eval()
        scored = frozen_features(own.dataset, "test", own.source, own.size, "whole", fabric.device)
        with torch.no_grad():
            predicted = network.head((scored - network.mean) / network.deviation).argmax(dim=1)
        predicted = predicted.cpu()
        metrics, kept = {}, {"position": [], "map": [], "predicted": []}
        resize = whole(images.images, own.size).transform or (lambda batch: batch)
        for true in range(own.classes):
            for guess in range(own.classes):
                group = ((images.labels == true) & (predicted == guess)).nonzero().squeeze(1)
                group = group[torch.randperm(len(group))[: self.each]]
                if not len(group):
                    continue
                batch = resize(images.images[group]).to(fabric.device).float()
                maps = class_maps(network, self.layer, batch, guess)
                metrics[f"outside_{true}_{guess}"] = outside(maps)
                metrics[f"images_{true}_{guess}"] = float(len(group))
                scale = maps.flatten(1).max(dim=1).values.clamp(min=1e-12).view(-1, 1, 1, 1)
                kept["position"] += group[: self.shown].tolist()
                kept["predicted"] += [guess] * len(group[: self.shown])
                kept["map"].append((255 * maps / scale)[: self.shown, 0].to(torch.uint8).cpu())
        return Outcome(
            metrics,
            predictions={
                "position": np.array(kept["position"], dtype=np.int32),
                "predicted": np.array(kept["predicted"], dtype=np.uint8),
                "map": torch.cat(kept["map"]).numpy(),
            },
        )


class Scored(nn.Module):
    """A backbone with the head that was trained on its standardised features."""

    def __init__(self, body: nn.Module, state: dict[str, Tensor]):
        super().__init__()
        self.body = body
        self.head = nn.Linear(*reversed(state["weight"].shape))
        self.head.load_state_dict({name: state[name] for name in ("weight", "bias")})
        self.register_buffer("mean", state["mean"])
        self.register_buffer("deviation", state["deviation"])

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.body(images) - self.mean) / self.deviation)


def class_maps(network: Scored, layer: str, images: Tensor, target: int) -> Tensor:
    """Grad-CAM of a class: [N, 1, h, w], 0 or more, of images [N, 1, H, W] with values 0..255.

    Convention: the paper's. Each of the layer's maps weighs its gradient's mean over places, their
    sum is cut off at zero, and nothing is normalised or enlarged.
    """
    method = LayerGradCam(network, network.body.body.get_submodule(layer))
    return torch.cat(
        [method.attribute(part, target=target, relu_attributions=True) for part in images.split(10)]
    ).detach()


def outside(maps: Tensor) -> float:
    """Share of the attribution that lies in the `rim` of maps [N, 1, H, W].

    Convention: the mean of the images' own shares, over those with any; nan where none has.
    """
    total = maps.sum(dim=(1, 2, 3))
    share = (maps * rim(*maps.shape[2:]).to(maps.device)).sum(dim=(1, 2, 3)) / total.clamp(
        min=1e-12
    )
    return float(share[total > 0].mean()) if (total > 0).any() else float("nan")


def rim(height: int, width: int) -> Tensor:
    """bool [height, width], True in a frame a seventh of the image wide, at least one place: there
    are shoulders, letters and the edge of the film, but no lungs."""
    ring = torch.ones(height, width, dtype=torch.bool)
    top, left = max(1, round(height / 7)), max(1, round(width / 7))
    ring[top : height - top, left : width - left] = False
    return ring


@dataclass(frozen=True)
class UnmatchedImages(Experiment, kind="xray-unmatched", recipe=1):
    """Do the PneumoniaMNIST test images without a file show a file after all, turned or cut?

    Each of them is compared by correlation with every test file that has no image either, under
    many crops, mirrored, turned and inverted; ``matched`` images with their own files under the
    same treatment are the control.
    """

    matched: int = 100
    """Matched test images in the control, at most."""

    def cell(self) -> dict[str, str | int]:
        return self.row(0, "unmatched images of PneumoniaMNIST", "", "tuned")

    def checksums(self) -> dict[str, str]:
        return super().checksums() | {
            # The table of matches names the images of this copy.
            "pneumoniamnist": pneumonia_mnist.MERGED,
            "matches": pneumonia_mnist.MATCHES_MD5,
        }

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        table = pneumonia_mnist.matches().query("split == 'test'")
        small, full = data.load("pneumonia").test, data.chest(self.dataset)
        place = {file: i for i, file in enumerate(full.test_files)}
        known, unknown = table[table["confident"] == 1], table[table["confident"] == 0]
        pairs = known.head(self.matched)
        if gone := [file for file in known["kermany_file"] if file not in place]:
            raise UserError(
                f"chest_xray has no {gone[0]}, which PneumoniaMNIST was made from: leave the "
                "comparison out with the parameter unmatched=false."
            )
        own = [place[file] for file in pairs["kermany_file"]]
        used = set(known["kermany_file"])
        left = [i for file, i in place.items() if file not in used]
        positions = unknown["index_in_merged_npz"].to_numpy().copy()
        control = correlations(
            small.images[pairs["index_in_merged_npz"].to_numpy().copy()], full.test.images[own]
        ).diag()
        found = correlations(small.images[positions], full.test.images[left])
        best = found.max(dim=1)
        labels = small.labels[positions]
        return Outcome(
            {
                "unmatched_images": float(len(unknown)),
                "unmatched_normal": float((labels == 0).sum()),
                "unmatched_files": float(len(left)),
                "control_lowest": control.min().item(),
                "control_median": control.median().item(),
                "unmatched_highest": best.values.max().item(),
                "unmatched_median": best.values.median().item(),
            },
            predictions={
                "image": positions.astype(np.int32),
                "file": np.array(left, dtype=np.int32)[best.indices.numpy()],
                "files": np.array(left, dtype=np.int32),
                "correlation": best.values.numpy().astype(np.float16),
            },
        )


def correlations(images: Tensor, files: Tensor) -> Tensor:
    """Highest correlation [N, M] of every image uint8 [N, 1, 28, 28] with every file uint8
    [M, 1, H, W], over centred cuts of 50% to 98% of its height or width, mirrored, turned by a
    quarter, and inverted.

    Convention: Pearson's, over the pixels of the smaller image; 0 where one of the
    two is of one grey.
    """
    target = _standard(images)
    best = torch.full((len(images), len(files)), -1.0)
    side = files.shape[-1]
    for share in torch.arange(0.5, 1.01, 0.04).tolist():
        size = round(side * share)
        at = (side - size) // 2
        for cut in (files[:, :, at : at + size], files[..., at : at + size]):
            shrunk = F.interpolate(cut.float(), size=images.shape[-2:], mode="area")
            for view in (
                shrunk,
                shrunk.flip(3),
                shrunk.flip(2),
                shrunk.rot90(1, (2, 3)),
                shrunk.rot90(3, (2, 3)),
                255 - shrunk,
            ):
                best = torch.maximum(best, target @ _standard(view).T)
    return best


def _standard(images: Tensor) -> Tensor:
    pixels = images.flatten(1).float()
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)
