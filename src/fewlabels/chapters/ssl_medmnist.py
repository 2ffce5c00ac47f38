"""Chapter 5: is pretraining without labels worth it on small medical images?

Two budgets: ``source`` is the source's own, for a graphics card; ``reduced`` is what two CPU cores
finish in some fifteen hours. The grid of both is `fewlabels.chapters.grid`'s; here stand their
order, in which the classifiers of a pretraining follow it at once, and what the source's small
comparisons, protocol ``tuned`` and ImageNet's features add.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fewlabels import data
from fewlabels.chapters.grid import (
    FRACTIONS,
    FROZEN_AND_TUNED,
    QUARTER,
    Grid,
    classifier,
    classifiers,
    controls,
    pretraining,
    share_of,
    supervised,
    untrained,
)
from fewlabels.chapters.grid import SOURCE_METHODS as SOURCE_METHODS  # The notebooks'.
from fewlabels.kinds.classes import LARGE, Classification
from fewlabels.kinds.ssl import DuplicateSearch, Pretraining
from fewlabels.kinds.transfer import TransferFeatures, TransferProbe, TransferStart
from fewlabels.learn.pretext.methods import METHODS, backbone_name
from fewlabels.learn.training import Course
from fewlabels.nets.pretrained import Pretrained
from fewlabels.runs.parameters import Repeats, Share, Some
from fewlabels.runs.records import Experiment, Store

NAME = "ssl-medmnist"
CONTRASTIVE = ("simclr", "moco")
WITH_FEWER = ("mae", "aim")
"""Methods of which linear probes get fewer labels than the grid has, as do all controls: those that
found more than their control in most cells of the grid."""
LONGER = (10, 50, 100)
"""Epochs beside 25 at which MoCo and its control show what the smaller budget costs."""
STATIC_RATES = (1e-3, 1e-4)
TWICE = "twice the epochs"
WEIGHTS = {
    "weights of the formula": {},
    "no class weights": {"weighted": False},
    "inverse frequencies": {"inverse": True},
}
"""How the supervised network may weigh its classes, in a shorter course than the source's."""
ENLARGED = 112
"""Pixels a side at which an ImageNet network sees the images of 28."""
STEMS = {"resnet18": "resnet18-small", "resnet34": "resnet34-small"}
"""Networks with the usual stem, which leaves an image of 28 pixels 7 wide, and with that for small
images."""
STEM_COURSE = {"batch_size": 32, "rate": 0.0125, "schedule": "epoch cosine", "evaluations": 1}
"""Of supervised networks whose stem differs, for a few epochs. Batch and rate are the best of three
on validation images, with the usual ResNet-18 and a draw that no run of the book has."""
FEW_EPOCHS = "few epochs"
SMALLER_RATE = 1e-4
"""Of a head on all positions of AIM, a hundredth of the source's."""
CHOICE_DRAW = 1000
UPDATES = 2000
"""Of the weights, at least, in protocol ``tuned``: a hundred passes over 1% of the labels are not
a tenth of that."""
TUNED_RATE = {"resnet18": 0.05, "resnet18-small": 0.05, "vit-28": 3e-4, "aim-tuned": 3e-4}
"""Learning rates of protocol ``tuned``: SGD for the convolutions, AdamW for the transformers."""
SOURCE = {
    "budget": "source",
    "methods": [*METHODS],
    "tuned_methods": [*CONTRASTIVE],
    "tuned_epochs": 200,
    "tuned_class_epochs": 100,
}
"""Parameters of the source's own budget, where a card is at hand: all that the chapter can run."""
PACKED = SOURCE | {"side_seeds": 0, "transfer_draws": 0}
"""What `fewlabels pack` takes along where nothing else is said: not the small comparisons, whose
extra cells would bring the folder over 60 MB, nor ImageNet's weights."""


@dataclass(frozen=True, kw_only=True)
class Settings(Grid):
    """The notebook's parameters."""

    side_seeds: Repeats
    """Draws of the small comparisons: blur, epochs, rates, ResNet-34, stems, AIM's large head,
    extra cells, imbalance."""
    tuned_seeds: Repeats
    """Draws of protocol tuned."""
    choice_seeds: Repeats
    """Draws behind the choices of protocol tuned, scored on validation images."""
    tuned_methods: list[Literal[(*METHODS,)]]
    """Pretext tasks of protocol tuned; with the reduced budget those of a residual network."""
    fractions: list[Share]
    """Shares of the training labels in the curves of protocol tuned."""
    tuned_epochs: Some
    """Of pretraining in protocol tuned; MAE and AIM take twice as many, rotation half."""
    tuned_class_epochs: Some
    """Of classifiers in protocol tuned, or as many as 2,000 updates need."""
    weight_draws: Repeats
    """Draws of the supervised network with, without and with other class weights."""
    transfer_draws: Repeats
    """Draws of linear probes on ImageNet features, over the shares of ``fractions``."""
    transfer_weights: str
    """ImageNet's weights of a ResNet-18: ``torchvision`` or a file, see chapter 4."""


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter at its budget, each once, in the order in which they are made."""
    searches = [DuplicateSearch(dataset) for dataset in settings.datasets]
    own = reduced_plan(settings) if settings.budget == "reduced" else source_plan(settings)
    runs = (*own, *beside_the_grid(settings), *transfer_runs(settings), *weight_runs(settings))
    return list(dict.fromkeys([*searches, *_with_needs(runs)]))


def beyond(settings: Settings) -> list[Experiment]:
    """What the source's own budget still asks for where the plan is the reduced one."""
    if settings.budget == "source":
        return []
    planned = {*plan(settings)}
    return [run for run in plan(replace(settings, **SOURCE)) if run not in planned]


def _with_needs(runs: Iterable[Experiment]) -> list[Experiment]:
    return [each for run in runs for each in (*run.needs(), run)]


def reduced_plan(s: Settings) -> Iterator[Experiment]:
    """All draws of a method and its control before the next method: a stop leaves whole claims."""
    for methods in (("moco", "simclr"), ("mae",), ("aim",), ("rotation", "vicreg")):
        methods = [method for method in methods if method in s.methods]
        for dataset in s.datasets:
            for draw in range(s.seeds):
                yield from (supervised(s, dataset, fraction, draw) for fraction in FRACTIONS)
            for method in methods:
                network = backbone_name(method, "reduced")
                for draw in range(s.seeds):
                    yield from classifiers(s, pretraining(s, dataset, method, draw))
                for draw in range(s.seeds):
                    yield from classifiers(s, untrained(s, dataset, network, draw))
    yield from budget_runs(s)
    for draw in range(s.seeds):
        yield from readout_runs(s, draw)
        yield from few_label_runs(s, draw)
        yield from longer_steps(s, draw)


def source_plan(s: Settings) -> Iterator[Experiment]:
    """Draw by draw, so that a visit to a card that ends early leaves whole draws: the contrastive
    methods with their control first, then the transformers, then what the source lacks."""
    for draw in range(s.seeds):
        for methods in (CONTRASTIVE, ("mae", "aim"), ("rotation", "vicreg")):
            for dataset in s.datasets:
                yield from (supervised(s, dataset, fraction, draw) for fraction in FRACTIONS)
                for method in methods:
                    if method in s.methods:
                        network = backbone_name(method, "report")
                        yield from classifiers(s, pretraining(s, dataset, method, draw))
                        yield from classifiers(s, untrained(s, dataset, network, draw))
    for draw in range(s.seeds):
        yield from readout_runs(s, draw)
        yield from variant_runs(s, draw)


def beside_the_grid(s: Settings) -> Iterator[Classification]:
    """At either budget: the small comparisons, and protocol ``tuned`` with its choices."""
    for draw in range(s.side_seeds):
        yield from side_runs(s, draw)
    for draw in range(s.choice_seeds):
        yield from candidates(s, draw)
    for draw in range(s.tuned_seeds):
        yield from tuned_runs(s, draw)


def budget_runs(s: Settings) -> Iterator[Classification]:
    """MoCo and its control on the balanced set, one draw, at other numbers of epochs."""
    for epochs in LONGER if "moco" in s.methods and s.seeds else ():
        longer = replace(s, reduced_epochs=share_of(s.reduced_epochs, epochs, 25))
        said = f"{epochs} epochs"
        yield from classifiers(longer, pretraining(longer, s.blood, "moco", 0, variant=said))
        for run in classifiers(longer, untrained(s, s.blood, "resnet18", 0)):
            yield replace(run, variant=said)


def readout_runs(s: Settings, draw: int) -> Iterator[Classification]:
    """A linear probe and nearest neighbours on every frozen backbone of the grid."""
    for dataset in s.datasets:
        starts = [pretraining(s, dataset, method, draw) for method in s.methods]
        starts += [untrained(s, dataset, network, draw) for network in controls(s)]
        for start in starts:
            for fraction in FRACTIONS:
                for readout in ("linear probe", "kNN"):
                    yield classifier(s, start, "frozen", fraction, readout=readout, positions=False)


def few_label_runs(s: Settings, draw: int) -> Iterator[Classification]:
    """Linear probes on frozen backbones with the shares of the labels that the grid lacks."""
    for dataset in s.datasets:
        starts = [pretraining(s, dataset, m, draw) for m in WITH_FEWER if m in s.methods]
        starts += [untrained(s, dataset, network, draw) for network in controls(s)]
        for start in starts:
            for fraction in sorted({*s.fractions} - {*FRACTIONS}):
                probe = {"readout": "linear probe", "positions": False}
                yield classifier(s, start, "frozen", fraction, **probe)


def longer_steps(s: Settings, draw: int) -> Iterator[Classification]:
    """Predicting rotations with momentum 0.9, whose steps are about ten times as long."""
    for dataset in s.datasets if "rotation" in s.methods else ():
        start = pretraining(s, dataset, "rotation", draw)
        yield from classifiers(s, replace(start, course=replace(start.course, momentum=0.9)))


def variant_runs(s: Settings, draw: int) -> Iterator[Classification]:
    """What the source leaves open: moving batch-norm statistics, and how AIM's tokens are read."""
    for dataset in s.datasets:
        for method in s.methods:
            start = pretraining(s, dataset, method, draw)
            for fraction in FRACTIONS:
                if method in CONTRASTIVE:
                    yield classifier(s, start, "frozen", fraction, moving=True)
                if method == "aim":
                    for backbone in FROZEN_AND_TUNED:
                        yield classifier(s, start, backbone, fraction, positions=False)


def side_runs(s: Settings, draw: int) -> Iterator[Classification]:
    """What claims S13 to S15, S17 to S19, S24 and S46 need beyond the grid, on the balanced data
    set; S24 on both."""
    yield supervised(s, s.blood, 1.0, draw, TWICE, epochs=2 * s.epochs)
    for rate in STATIC_RATES:
        static = {"rate": rate, "schedule": "constant"}
        yield supervised(s, s.blood, 1.0, draw, f"static rate {rate:g}", **static)
    contrastive = [method for method in CONTRASTIVE if method in s.methods]
    for method in contrastive:
        blurred = pretraining(s, s.blood, method, draw, blur=True)
        yield from (classifier(s, blurred, backbone, 1.0) for backbone in FROZEN_AND_TUNED)
    if "moco" in s.methods:
        yield from classifiers(s, pretraining(s, s.blood, "moco", draw, network="resnet34"))
        if s.blood == "bloodmnist":
            more = pretraining(s, s.blood, "moco", draw, extra="bccd")
            yield from (classifier(s, more, "fine-tuned", fraction) for fraction in FRACTIONS)
    for method in contrastive:
        for kind in ("balanced", "unbalanced"):
            start = pretraining(s, s.blood, method, draw, subset=kind)
            yield from (classifier(s, start, backbone, QUARTER) for backbone in FROZEN_AND_TUNED)
    if "aim" in s.methods:
        for dataset in s.datasets:
            yield from large_heads(s, dataset, draw)
    yield from stem_runs(s, draw)


def large_heads(s: Settings, dataset: str, draw: int) -> Iterator[Classification]:
    """All positions of AIM straight into a head: the source's way, and two that may mend it."""
    start = pretraining(s, dataset, "aim", draw)
    for readout in LARGE:
        yield classifier(s, start, "frozen", QUARTER, readout=readout, positions=False)
    own = classifier(s, start, "frozen", QUARTER, readout=LARGE[0], positions=False)
    slower = replace(own.course, rate=SMALLER_RATE)
    yield replace(own, course=slower, variant=f"rate {SMALLER_RATE:g}")


def stem_runs(s: Settings, draw: int) -> Iterator[Classification]:
    """Depth and stem: MoCo on networks with the stem for small images, beside those with the usual
    one; with the reduced budget, which cannot pretrain them, all four supervised, for a few epochs.
    """
    if s.budget == "source":
        for network in STEMS.values() if "moco" in s.methods else ():
            start = pretraining(s, s.blood, "moco", draw, network=network)
            yield from (classifier(s, start, "fine-tuned", fraction) for fraction in FRACTIONS)
        return
    epochs = share_of(s.reduced_epochs, 5, 25)
    for network in (*STEMS, *STEMS.values()):
        said = f"{network}, {FEW_EPOCHS}"
        run = supervised(s, s.blood, QUARTER, draw, said, epochs=epochs, **STEM_COURSE)
        yield replace(run, network=network)


def weight_runs(s: Settings) -> Iterator[Classification]:
    """The supervised network with the source's class weights, without any, and with inverse
    frequencies: ``reduced_epochs`` with a cosine in place of 100 epochs with halvings."""
    for dataset in reversed(s.datasets):  # The unbalanced one first: it has rare classes.
        for draw in range(s.weight_draws):
            for variant, weighing in WEIGHTS.items():
                run = supervised(
                    *(s, dataset, 1.0, draw, variant),
                    epochs=s.reduced_epochs,
                    schedule="epoch cosine",
                )
                yield replace(run, **weighing)


def transfer_runs(s: Settings) -> Iterator[TransferProbe | Classification]:
    """Linear probes on the features of an ImageNet network, over the shares of labels, and the
    grid's control with ImageNet's weights in place of random ones.

    With all labels one probe: the others would be the same on the same images.
    """
    for dataset in s.datasets:
        features = TransferFeatures(dataset, imagenet(s), 32 if s.tiny else ENLARGED, s.images)
        for draw in range(s.transfer_draws):
            for fraction in sorted(s.fractions):
                if fraction < 1 or draw == 0:
                    yield TransferProbe(dataset, features, fraction, draw)
        for draw in range(min(s.seeds, s.transfer_draws)):
            yield from (transferred(s, dataset, fraction, draw) for fraction in FRACTIONS)


def imagenet(s: Settings) -> Pretrained:
    """The ImageNet network of the comparisons."""
    return Pretrained("resnet18", s.transfer_weights)


def transferred(s: Settings, dataset: str, fraction: float, draw: int) -> Classification:
    """The control of the same draw, fine-tuned in the same way, from ImageNet's weights."""
    control = classifier(s, untrained(s, dataset, "resnet18", draw), "fine-tuned", fraction)
    start = TransferStart(dataset, imagenet(s), "resnet18", s.images, s.tiny)
    return replace(control, protocol="transfer", pretraining=start)


def tuned_sets(s: Settings) -> list[str]:
    """The data sets of protocol ``tuned``: at the reduced budget the balanced one alone."""
    return [s.blood] if s.budget == "reduced" else s.datasets


def tuned_runs(s: Settings, draw: int) -> Iterator[Classification]:
    """Our protocol over the shares of labels: from scratch, fine-tuned, and linear probes."""
    for dataset in tuned_sets(s):
        starts = [pretraining(s, dataset, method, draw, "tuned") for method in s.tuned_methods]
        for fraction in sorted(s.fractions):
            yield tuned(s, dataset, None, fraction, draw)
            for start in starts:
                yield tuned(s, dataset, start, fraction, draw)
                yield probe(s, start, fraction, draw)


def tuned(
    s: Settings,
    dataset: str,
    start: Pretraining | None,
    fraction: float,
    draw: int,
    rate: float | None = None,
    augmented: bool = True,
    scored_on: str = "test",
) -> Classification:
    """Our classifier, from scratch or fine-tuned: the same network, layer and course."""
    small = "resnet18" if s.budget == "reduced" else "resnet18-small"
    network = small if start is None else start.network
    course = Course(1, rate or TUNED_RATE[network], nesterov=True, weight_decay=5e-4)
    if not network.startswith("resnet"):
        course = replace(course, optimiser="adamw", weight_decay=0.05)
    count = round(fraction * min(data.train_size(dataset), s.images or 10**9))
    least = -(-UPDATES // course.recipe(max(1, count)).steps) if not s.tiny else 1
    epochs = max(s.tuned_class_epochs, least)
    return Classification(
        dataset,
        "tuned",
        "scratch" if start is None else "fine-tuned",
        network,
        fraction,
        draw,
        replace(course, schedule="cosine", epochs=epochs),
        pretraining=start,
        augmented=augmented,
        weighted=False,
        scored_on=scored_on,
        images=s.images,
        tiny=s.tiny,
    )


def probe(s: Settings, start: Pretraining, fraction: float, draw: int) -> Classification:
    """A linear probe on the frozen backbone."""
    return Classification(
        start.dataset,
        "tuned",
        "frozen",
        start.network,
        fraction,
        draw,
        Course(0, rate=0.1, evaluations=0),
        pretraining=start,
        readout="linear probe",
        images=s.images,
        tiny=s.tiny,
    )


def candidates(s: Settings, draw: int) -> Iterator[Classification]:
    """What is compared on validation images before protocol ``tuned`` is scored on test images."""
    draw += CHOICE_DRAW
    for dataset in tuned_sets(s):
        for augmented in (False, True):
            for rate in (0.02, 0.05, 0.1):
                yield tuned(s, dataset, None, QUARTER, draw, rate, augmented, "validation")
        for method in s.tuned_methods:
            start = pretraining(s, dataset, method, draw, "tuned")
            usual = TUNED_RATE[start.network]
            for rate in (usual / 3, usual):
                yield tuned(s, dataset, start, QUARTER, draw, rate, True, "validation")
