"""Runs of chapter 7 on variational auto-encoders, and the digit reader that judges their images.

Protocol ``report`` is the sheet's: its networks, two latent dimensions, a loss that is the mean
squared error over pixels plus ``weight`` times the KL divergence, Adam at 0.001, batches of 128.
Protocol ``tuned`` has a proper likelihood: Bernoulli pixels, binarised anew for every batch, as in
Salakhutdinov & Murray (2008) and Burda et al. (2016).
"""

from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.kinds.denoising import as_pictures, train_and_held_out
from fewlabels.kinds.measured import placed, size, sizes
from fewlabels.learn import evaluation
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets import variational
from fewlabels.nets.autoencoders import VariationalAutoencoder, dense_vae, sheet_vae
from fewlabels.nets.compact import CompactNet
from fewlabels.runs.records import Experiment, Outcome, Store

PIXELS = 28 * 28
GRID, REACH = 10, 3.0
"""The sheet's grid: ten values from -3 to 3 along each axis of the plane."""
CONFIDENT = 0.9
NEIGHBOURS = 5
NEIGHBOUR_IMAGES = 10_000
"""Labelled training images that vote in the plane."""
PLANE_POINTS = 2000
"""Test images whose place in the plane the first seed keeps."""
EVALUATED_AT_ONCE = 500


@dataclass(frozen=True)
class DigitReader(Experiment, kind="reader", recipe=1):
    """A classifier trained on all labels: the judge of decoded images.

    Its confidence on real test images says what plausible is; on the averages of two test images
    of different digits, what it is not.
    """

    seed: int
    training: Recipe
    unlabelled: int = 60_000
    """Training images used, at most; the reader uses their labels."""

    def cell(self) -> dict[str, str | int]:
        return self.row("all", "digit reader", "scratch", "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        images = data.load(self.dataset)
        train = train_and_held_out(images)[0].to(fabric.device)
        train = train.take(torch.arange(min(self.unlabelled, len(train.labels))))
        network = placed(CompactNet(10), fabric)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            return F.cross_entropy(module(train.images[index].float() / 255), train.labels[index])

        curves = fit(network, loss, len(train.labels), self.training, fabric, label=str(self))
        test = images.test.to(fabric.device)
        real = test.images.float() / 255
        probabilities = predict(network, real).softmax(dim=1)
        metrics = evaluation.evaluate(probabilities.cpu().numpy(), test.labels.cpu().numpy())
        metrics |= {f"{key}_real": value for key, value in confidence(probabilities).items()}
        other = torch.roll(torch.arange(len(real), device=real.device), 1)
        differ = test.labels != test.labels[other]
        blends = (real[differ] + real[other][differ]) / 2
        blended = confidence(predict(network, blends).softmax(dim=1))
        metrics |= {f"{key}_blends": value for key, value in blended.items()}
        return Outcome(metrics, curves, {}, sizes(network), network.state_dict())


def confidence(probabilities: Tensor) -> dict[str, float]:
    """Mean top probability, and the share of images whose top probability reaches 0.9.

    Convention: fractions; 0.9 itself reaches it.
    """
    top = probabilities.max(dim=1).values
    return {
        "confidence": top.mean().item(),
        "confident": (top >= CONFIDENT).float().mean().item(),
    }


@dataclass(frozen=True)
class PlaneVAE(Experiment, kind="vae", recipe=1):
    """The sheet's variational auto-encoder with one weight of the KL term."""

    weight: float
    """The sheet's ``coeff``."""
    seed: int
    training: Recipe
    reader: DigitReader
    unlabelled: int = 60_000
    """Training images used, at most."""

    def __post_init__(self):
        config.positive("weight", self.weight)
        config.whole("seed", self.seed, 0)
        config.whole("unlabelled", self.unlabelled, 10)

    def cell(self) -> dict[str, str | int]:
        method = f"sheet's VAE, weight {self.weight:g}, {self.training.steps} steps"
        return self.row(0, method, "scratch", "report")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        images = data.load(self.dataset)
        train, held = (split.to(fabric.device) for split in train_and_held_out(images))
        shown = train.images[: self.unlabelled]
        network = placed(sheet_vae(), fabric)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            clean = shown[index].float() / 255
            decoded, mean, log_variance = module(clean)
            kl = variational.kl_divergence(mean, log_variance).mean()
            return F.mse_loss(decoded, clean) + self.weight * kl

        def evaluate(module: nn.Module) -> dict[str, float]:
            terms = rate_and_distortion(module, held.images)
            return {f"valid_{name}": value for name, value in terms.items()}

        curves = fit(network, loss, len(shown), self.training, fabric, evaluate, label=str(self))
        test = images.test.to(fabric.device)
        metrics = rate_and_distortion(network, test.images)
        variance = variational.decoder_variance(self.weight, PIXELS)
        for name, spread in (("elbo_own", variance), ("elbo_best", metrics["mse"])):
            metrics[name] = variational.gaussian_elbo(metrics["mse"], metrics["kl"], spread, PIXELS)
        means = latent_means(network, test.images)
        metrics |= plane_metrics(network, train, means, test.labels)

        reader = CompactNet(10)
        reader.load_state_dict(store.weights(self.reader, fabric))
        placed(reader, fabric).eval()
        decoded = predict(network.decoder, grid(fabric.device))
        probabilities = predict(reader, decoded).softmax(dim=1)
        top, classes = probabilities.max(dim=1)
        metrics |= confidence(probabilities)
        metrics["digits"] = float(len(classes[top >= CONFIDENT].unique()))

        pictures = {
            "grid_confidence": top.cpu().numpy().astype(np.float16),
            "grid_classes": classes.cpu().numpy().astype(np.uint8),
        }
        if self.seed == 0:
            with torch.no_grad():
                five = network(test.images[:5].float() / 255)[0]
            pictures |= {
                "grid": as_pictures(decoded),
                "five": as_pictures(five),
                "plane": means[:PLANE_POINTS].cpu().numpy().astype(np.float16),
            }
        return Outcome(metrics, curves, pictures, parameter_counts(network))


def grid(device: torch.device | str = "cpu") -> Tensor:
    """The sheet's grid of latent points [100, 2]: rows from the top (+3) down, columns rightwards.

    The first coordinate is x, the second y, as in a scatter plot.
    """
    along = torch.linspace(-REACH, REACH, GRID, device=device)
    y, x = torch.meshgrid(along.flip(0), along, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def parameter_counts(network: VariationalAutoencoder) -> dict[str, int]:
    """``total``, ``trained``, and those of ``encoder`` and ``decoder``."""
    parts = {
        name: size(part)
        for name, part in (("encoder", network.encoder), ("decoder", network.decoder))
    }
    return {"total": sum(parts.values()), "trained": sum(parts.values())} | parts


@torch.no_grad()
def rate_and_distortion(network: VariationalAutoencoder, images: Tensor) -> dict[str, float]:
    """``kl`` and ``mse`` of uint8 images.

    Convention: ``kl`` in nats an image, ``mse`` the mean over pixels in 0..1 and images. The images
    are decoded from one draw of their posteriors, as in training.
    """
    error, rate = [], []
    for part in images.split(EVALUATED_AT_ONCE):
        clean = part.float() / 255
        decoded, mean, log_variance = network(clean)
        error.append((decoded - clean).square().flatten(1).mean(dim=1))
        rate.append(variational.kl_divergence(mean, log_variance))
    return {"mse": torch.cat(error).mean().item(), "kl": torch.cat(rate).mean().item()}


def latent_means(network: VariationalAutoencoder, images: Tensor) -> Tensor:
    """Posterior means [N, latents] of uint8 images."""
    return predict(lambda part: network.encode(part.float() / 255)[0], images)


def plane_metrics(
    network: VariationalAutoencoder, train, means: Tensor, labels: Tensor
) -> dict[str, float]:
    """``active_units`` of the means [N, latents], and ``knn_accuracy`` among their neighbours.

    Convention: the five nearest posterior means of labelled training images have a vote each
    (Euclidean distance); in a tie the first class has it.
    """
    known = latent_means(network, train.images[:NEIGHBOUR_IMAGES]).cpu().numpy()
    model = KNeighborsClassifier(NEIGHBOURS)
    model.fit(known, train.labels[:NEIGHBOUR_IMAGES].cpu().numpy())
    right = model.predict(means.cpu().numpy()) == labels.cpu().numpy()
    return {
        "active_units": float(variational.active_units(means)),
        "knn_accuracy": float(right.mean()),
    }


@dataclass(frozen=True)
class BinaryVAE(Experiment, kind="binary-vae", recipe=1):
    """A dense VAE of binarised images, with its bounds on the log likelihood in nats."""

    latents: int
    seed: int
    training: Recipe
    importance_samples: int
    """Draws per image of the importance-weighted bound."""
    unlabelled: int = 60_000
    """Training images used, at most."""

    def __post_init__(self):
        config.whole("latents", self.latents, 1)
        config.whole("seed", self.seed, 0)
        config.whole("importance_samples", self.importance_samples, 1)
        config.whole("unlabelled", self.unlabelled, 10)

    def cell(self) -> dict[str, str | int]:
        return self.row(0, f"dense VAE, {self.latents} latents, Bernoulli", "scratch", "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        images = data.load(self.dataset)
        train, held = (split.to(fabric.device) for split in train_and_held_out(images))
        shown = train.images[: self.unlabelled]
        network = dense_vae(self.latents).to(fabric.device)
        valid = binarised(held.images, seed=1000)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            binary = torch.bernoulli(shown[index].float() / 255)
            logits, mean, log_variance = module(binary)
            kl = variational.kl_divergence(mean, log_variance)
            return (kl - log_bernoulli(logits, binary)).mean()

        def evaluate(module: nn.Module) -> dict[str, float]:
            found = bounds(module, valid, samples=1)
            return {"valid_loss": -found["elbo"]}

        curves = fit(network, loss, len(shown), self.training, fabric, evaluate, label=str(self))
        test = images.test.to(fabric.device)
        binary = binarised(test.images, seed=self.seed)
        metrics = bounds(network, binary, self.importance_samples)
        means = latent_means(network, test.images)
        metrics |= plane_metrics(network, train, means, test.labels)
        return Outcome(metrics, curves, parameters=parameter_counts(network))


def binarised(images: Tensor, seed: int) -> Tensor:
    """uint8 images as draws of pixels that are white with the probability of their grey level."""
    generator = torch.Generator(images.device).manual_seed(seed)
    return torch.bernoulli(images.float() / 255, generator=generator)


def log_bernoulli(logits: Tensor, binary: Tensor) -> Tensor:
    """log p(x | z): [N], from logits and pixels of 0 or 1, each [N, 1, H, W].

    Convention: in nats, summed over the pixels.
    """
    each = F.binary_cross_entropy_with_logits(logits, binary, reduction="none")
    return -each.flatten(1).sum(dim=1)


@torch.no_grad()
def bounds(network: VariationalAutoencoder, binary: Tensor, samples: int) -> dict[str, float]:
    """Bounds on log p(x), means over binary images [N, 1, 28, 28].

    Convention: nats an image, not bits and not a pixel. ``elbo``: the mean over ``samples`` draws
    of log p(x | z), less the closed-form ``kl``; ``importance_bound``: Burda et al.'s with the same
    draws.
    """
    found: dict[str, list[Tensor]] = {"elbo": [], "kl": [], "importance_bound": []}
    for part in binary.split(max(1, 10_000 // samples)):
        mean, log_variance = network.encode(part)
        kl = variational.kl_divergence(mean, log_variance)
        mean, log_variance = (t.expand(samples, *t.shape) for t in (mean, log_variance))
        z = variational.reparameterised(mean, log_variance)
        copies = part.expand(samples, *part.shape).flatten(0, 1)
        fit_of = log_bernoulli(network.decoder(z.flatten(0, 1)), copies).view(samples, len(part))
        against = variational.log_normal(z) - variational.log_normal(z, mean, log_variance)
        found["elbo"].append(fit_of.mean(dim=0) - kl)
        found["kl"].append(kl)
        found["importance_bound"].append(variational.importance_bound(fit_of + against))
    return {name: torch.cat(values).mean().item() for name, values in found.items()}
