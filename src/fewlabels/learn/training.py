"""The one training loop.

Lightning Fabric brings the device, the precision and several GPUs; everything else is here, top to
bottom. The data lie on the device already, so a step is: draw positions, ask the method for its
loss on them, update. A method is a function ``loss(module, index) -> scalar`` over those positions.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from fewlabels import config
from fewlabels.errors import UserError
from fewlabels.learn.captured import Captured
from fewlabels.learn.resume import Kept

Loss = Callable[[nn.Module, Tensor], Tensor]
Evaluate = Callable[[nn.Module], dict[str, float]]
Curves = dict[str, list[float]]

CHECK_EVERY = 50
"""Steps between looks at the losses: a look waits for the device, and a step should not."""


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the message names the step and the config."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Every setting is part of the run's identity."""

    steps: int
    """Updates of the weights; none leaves the network untrained."""
    batch_size: int
    rate: float
    """Learning rate at the start; ``schedule`` says how it goes on."""
    optimiser: str = "adam"
    """``adam``, ``adamw``, ``sgd`` (with Nesterov momentum 0.9) or ``plain sgd`` (without)."""
    weight_decay: float = 0.0
    schedule: str = "constant"
    """``constant``, or ``cosine`` to zero after a linear warm-up over the first 5% of the steps."""
    evaluations: int = 20
    """Points of the learning curves, evenly spaced, the last one after the last step; at most
    ``steps``."""
    keep: str = "last"
    """``last``, or ``best``: the evaluated state with the lowest validation loss."""

    # What :class:`EpochRecipe` makes settings of.
    momentum: ClassVar[float] = 0.9
    nesterov: ClassVar[bool] = True
    drop_last: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    schedules: ClassVar[tuple[str, ...]] = ("constant", "cosine")

    def __post_init__(self):
        config.whole("steps", self.steps, 0)
        config.whole("batch_size", self.batch_size, 1)
        config.whole("evaluations", self.evaluations, 0, self.steps)
        config.positive("rate", self.rate)
        config.positive("weight_decay", self.weight_decay, or_zero=True)
        config.one_of("optimiser", self.optimiser, ("adam", "adamw", "sgd", "plain sgd"))
        config.one_of("schedule", self.schedule, self.schedules)
        config.one_of("keep", self.keep, ("last", "best"))
        if self.keep == "best" and not self.evaluations:
            raise UserError("keep is 'best' but evaluations is 0; allowed: 1 or more of them")


@dataclass(frozen=True)
class EpochRecipe(Recipe):
    """A recipe whose schedule moves once an epoch, as PyTorch's examples have it."""

    schedules: ClassVar[tuple[str, ...]] = ("constant", "cosine", "epoch cosine", "halved")
    pairs: ClassVar[bool] = True
    """A last batch of one image takes another from the batch before: batch norm needs two."""

    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = True
    drop_last: bool = False
    """Leave out the shorter batch at the end of an epoch."""
    epoch_steps: int = 1
    """Steps in an epoch. ``epoch cosine`` falls to zero over the epochs; ``halved`` halves the rate
    every twenty of them, down to a hundredth of the first."""


@dataclass(frozen=True)
class Course:
    """How long and how a network is trained, for any number of images; part of a run's identity."""

    epochs: int
    """Passes over the images; none leaves the network untrained."""
    rate: float
    batch_size: int = 128
    """Where there are fewer images, all of them are a batch."""
    optimiser: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "epoch cosine"
    drop_last: bool = True
    evaluations: int = 20
    """Points of the learning curves, at most, and at most one an epoch."""

    def __post_init__(self):
        config.whole("epochs", self.epochs, 0)
        config.whole("evaluations", self.evaluations, 0)
        self.recipe(self.batch_size)

    def recipe(self, count: int) -> EpochRecipe:
        """The course over ``count`` images."""
        batch = min(self.batch_size, count)
        epoch_steps = count // batch if self.drop_last else -(-count // batch)
        steps = self.epochs * epoch_steps
        return EpochRecipe(
            steps=steps,
            batch_size=batch,
            rate=self.rate,
            optimiser=self.optimiser,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            evaluations=min(self.evaluations, self.epochs, steps),
            momentum=self.momentum,
            nesterov=self.nesterov,
            drop_last=self.drop_last,
            epoch_steps=epoch_steps,
        )


def fit(
    module: nn.Module,
    loss: Loss,
    count: int,
    recipe: Recipe,
    fabric: Fabric,
    evaluate: Evaluate | None = None,
    label: str = "",
    slower: tuple[nn.Module, float] | None = None,
    captured: bool = False,
) -> Curves:
    """Train ``module`` in place.

    A run that was stopped in its midst goes on, see `fewlabels.learn.resume`.

    Only parameters with ``requires_grad`` are trained. A module that is frozen has to be put into
    evaluation mode by its owner as well (override ``train``), or its batch norm goes on moving.

    Args:
        module: the network, on any device.
        loss: called as ``loss(module, index)`` with int64 positions [batch_size] in ``0..count-1``.
        count: number of training images. Positions come from a fresh permutation per epoch; the
            last, shorter batch of an epoch is used too, unless the recipe drops it.
        recipe: see :class:`Recipe`.
        fabric: device and precision. With several devices each takes its own part of the batch.
        evaluate: called without gradients and in evaluation mode at every point of the learning
            curve, with validation data, never with test data. Its keys become curves;
            ``keep="best"`` needs ``valid_loss`` among them.
        label: names the run in the message about a non-finite loss.
        slower: a part of ``module`` and the factor on the learning rate of its parameters
            (discriminative rates: a pretrained backbone moves less than its new head).
        captured: on a CUDA device, run the steps as a captured graph, see
        `fewlabels.learn.captured`.

    Returns:
        Curves by name, one value per evaluation: ``step``, ``train_loss`` (mean over the steps
        since the previous point) and whatever ``evaluate`` returns.

    Raises:
        NonFiniteLoss: names the first bad step and the run.
        Stopped: the run was told to.
    """
    if recipe.keep == "best" and evaluate is None:
        raise UserError("keep is 'best' but nothing is evaluated; pass evaluate, or keep 'last'")
    own = _optimiser(_groups(module, slower, recipe), recipe, fabric.device)
    rates = [float(group["lr"]) for group in own.param_groups]
    wrapped, optimiser = fabric.setup(module, own)
    kept = Kept(module, own, fabric, recipe, count)
    state = _State(**(kept.load() or {"losses": torch.zeros(recipe.steps, device=fabric.device)}))
    groups = [*zip(own.param_groups, rates, strict=True)]

    def update(index: Tensor) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        value = loss(wrapped, index)
        fabric.backward(value)
        optimiser.step()
        return value.detach()

    if captured and fabric.device.type == "cuda" and recipe.steps:
        update = Captured(update, recipe.batch_size, fabric.device)
    points = {round(recipe.steps * (i + 1) / recipe.evaluations) for i in range(recipe.evaluations)}
    losses, curves = state.losses, state.curves

    wrapped.train()
    factor = 1.0
    for index in _batches(count, recipe, fabric, state):
        if (now := _factor(state.step, recipe)) != factor:
            _set_rates(groups, factor := now)
        losses[state.step] = update(index)
        state.step += 1

        step = state.step
        if step % CHECK_EVERY == 0 or step in points or step == recipe.steps:
            _require_finite(losses[state.checked : step], state.checked, recipe, label)
            state.checked = step
        if step in points:
            since = int(curves["step"][-1]) if curves["step"] else 0
            curves["step"].append(float(step))
            mean = losses[since:step].mean()
            if fabric.world_size > 1:
                mean = fabric.all_reduce(mean, reduce_op="mean")
            curves["train_loss"].append(mean.item())
            if evaluate is not None:
                measured = evaluated(module, evaluate)
                for name, number in measured.items():
                    curves.setdefault(name, []).append(number)
                if recipe.keep == "best" and measured["valid_loss"] < state.best_loss:
                    state.best_loss = measured["valid_loss"]
                    state.best = {k: v.detach().clone() for k, v in module.state_dict().items()}
        kept.step(step, recipe.steps, vars(state))
    if state.best is not None:
        module.load_state_dict(state.best)
    module.eval()
    return curves


@dataclass
class _State:
    """Where a training stands, beside the network and its optimiser."""

    losses: Tensor
    """Of every step [steps]."""
    curves: Curves = field(default_factory=lambda: {"step": [], "train_loss": []})
    step: int = 0
    """Steps made."""
    order: Tensor | None = None
    """Positions of the images in this epoch."""
    checked: int = 0
    """Losses that were found finite."""
    best_loss: float = math.inf
    best: dict[str, Tensor] | None = None
    """State dict with that loss."""


def evaluated(module: nn.Module, evaluate: Evaluate) -> dict[str, float]:
    """``evaluate(module)`` in evaluation mode and without gradients; the mode is restored."""
    mode = module.training
    module.eval()
    with torch.no_grad():
        measured = evaluate(module)
    module.train(mode)
    return measured


@torch.no_grad()
def predict(module: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 500) -> Tensor:
    """Outputs [N, ...] of ``module`` on images [N, C, H, W], batch by batch, float32."""
    return torch.cat([module(part).float() for part in images.split(batch_size)])


def _batches(count: int, recipe: Recipe, fabric: Fabric, state: _State) -> Iterator[Tensor]:
    """Batches of positions up to ``recipe.steps``; with several devices, this device's part of
    each. ``state.step`` counts those that are done."""
    shown = count - count % recipe.batch_size if recipe.drop_last else count
    epoch = max(1, -(-shown // recipe.batch_size))
    sizes = [recipe.batch_size] * (epoch - 1) + [shown - (epoch - 1) * recipe.batch_size]
    if recipe.pairs and epoch > 1 and sizes[-1] == 1:
        sizes[-2:] = [recipe.batch_size - 1, 2]
    while state.step < recipe.steps:
        if state.step % epoch == 0:
            order = torch.randperm(count, device=fabric.device)
            state.order = fabric.broadcast(order) if fabric.world_size > 1 else order
        for index in state.order[:shown].split(sizes)[state.step % epoch :]:
            yield index[fabric.global_rank :: fabric.world_size]
            if state.step == recipe.steps:
                return


def _groups(module: nn.Module, slower: tuple[nn.Module, float] | None, recipe: Recipe):
    """The trained parameters with their rate, those of the slower part with one of their own."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if slower is None:
        return [{"params": trained, "lr": recipe.rate}]
    part, factor = slower
    inside = {id(p) for p in part.parameters()}
    return [
        {"params": [p for p in trained if id(p) not in inside], "lr": recipe.rate},
        {"params": [p for p in trained if id(p) in inside], "lr": factor * recipe.rate},
    ]


def _optimiser(groups: list[dict], recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    # On a card one kernel for all weights, and a rate that a captured step can read; on a CPU it
    # would round otherwise than it always has here.
    cuda = device.type == "cuda"
    for group in groups if cuda else ():
        group["lr"] = torch.tensor(group["lr"], device=device)
    settings = {"weight_decay": recipe.weight_decay, "fused": cuda}
    match recipe.optimiser:
        case "adam":
            return torch.optim.Adam(groups, capturable=cuda, **settings)
        case "adamw":
            return torch.optim.AdamW(groups, capturable=cuda, **settings)
        case "plain sgd":
            return torch.optim.SGD(groups, **settings)
        case _:
            return torch.optim.SGD(
                groups, momentum=recipe.momentum, nesterov=recipe.nesterov, **settings
            )


def _set_rates(rates: list[tuple[dict, float]], factor: float) -> None:
    """Give every group of parameters ``factor`` times its own rate."""
    for group, rate in rates:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * factor)  # In place: a captured step reads it there.
        else:
            group["lr"] = rate * factor


def _factor(step: int, recipe: Recipe) -> float:
    """Learning rate at ``step`` (0-based) as a fraction of ``recipe.rate``."""
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "halved":
        return max(0.5 ** (step // recipe.epoch_steps // 20), 0.01)
    if recipe.schedule == "epoch cosine":
        epoch = step // recipe.epoch_steps
        return 0.5 * (1 + math.cos(math.pi * epoch * recipe.epoch_steps / max(1, recipe.steps)))
    warmup = max(1, round(0.05 * recipe.steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, recipe.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def _require_finite(losses: Tensor, start: int, recipe: Recipe, label: str) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = start + int(bad[0]) + 1
        raise NonFiniteLoss(
            f"loss is {losses[bad[0]].item()} at step {step} of {recipe.steps} ({label or 'run'}, "
            f"{recipe}); try a lower rate"
        )
