"""Chapter 5: its runs on generated cells, its plan and its verdicts."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lightning.fabric import Fabric
from torch.nn import functional as F

from fewlabels import data, notebooks, paths, published
from fewlabels.chapters.ssl_medmnist import Settings, claims, planning, results, show
from fewlabels.errors import UserError
from fewlabels.experiments import ssl
from fewlabels.experiments.ssl import (
    Classification,
    DuplicateSearch,
    Pretraining,
    new_images,
    on_new_images,
    predicted_classes,
    subset,
    task,
)
from fewlabels.pretext.methods import METHODS
from fewlabels.runs import Store
from fewlabels.training import Course
from fewlabels.verdicts import Verdict

CPU = torch.device("cpu")
COURSE = Course(epochs=6, rate=0.05, batch_size=32)
SETTINGS = Settings(**yaml.safe_load((paths.PARAMS / "smoke/ssl-medmnist.yaml").read_text()))


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Shared, so that every pretraining is computed once."""
    folder = tmp_path_factory.mktemp("ssl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABELS_CACHE", str(folder / "cache"))
        ssl._FEATURES.clear()
        yield Store(folder / "results")
        ssl._FEATURES.clear()


def pretraining(method="simclr", protocol="report", epochs=2, seed=0, **settings):
    course = replace(METHODS[method].COURSES[protocol], epochs=epochs, batch_size=32)
    network = METHODS[method].NETWORKS[protocol]
    given = {"network": network, "course": course, "tiny": True} | settings
    return Pretraining("cells", protocol, method, seed=seed, **given)


def classification(start=None, backbone="scratch", **settings):
    protocol = start.protocol if start else "report"
    network = start.network if start else "resnet18"
    given = {"fraction": 1.0, "draw": 0, "course": COURSE, "tiny": True} | settings
    return Classification("cells", protocol, backbone, network, pretraining=start, **given)


@pytest.mark.parametrize("protocol", ["report", "tuned"])
@pytest.mark.parametrize("method", METHODS)
def test_every_pretraining_leaves_a_backbone_that_classifiers_start_from(
    store, fabric, method, protocol
):
    start = pretraining(method, protocol)
    record = store.run(start, fabric)
    assert math.isfinite(record.metrics["train_loss"])
    weights = store.weights(start, fabric)
    tuned = store.run(classification(start, "fine-tuned"), fabric)
    frozen = store.run(classification(start, "frozen"), fabric)
    for run in (tuned, frozen):
        assert run.cell["method"].startswith(method)
        assert run.predictions["classes"].shape == (60,)
        assert run.inputs.keys() == {start.id}
    assert tuned.parameters["trained"] > frozen.parameters["trained"]
    again = store.weights(start, fabric)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_supervised_network_learns(store, fabric):
    course = Course(epochs=60, rate=0.05, batch_size=32, schedule="halved", drop_last=False)
    record = store.run(classification(course=course), fabric)
    curve = record.curves
    assert curve["train_loss"][-1] < 0.5 * curve["train_loss"][0]
    assert record.metrics["accuracy"] > 0.7


def test_what_a_record_says_follows_from_its_predictions(store, fabric):
    record = store.run(classification(probabilities=True), fabric)
    truth = data.load("cells").test.labels.numpy()
    assert record.predictions["test"].dtype == np.float16
    assert record.predictions["valid"].shape == (40, 4)
    predicted = predicted_classes(record.predictions)
    assert record.metrics["accuracy"] == pytest.approx((predicted == truth).mean())
    recalls = [(predicted[truth == k] == k).mean() for k in range(4)]
    assert [record.metrics[f"recall_class_{k}"] for k in range(4)] == pytest.approx(recalls)
    assert record.metrics["mean_class_accuracy"] == pytest.approx(np.mean(recalls))
    new = new_images("cells")
    assert new.sum() == 40
    on_new = on_new_images("cells", predicted)
    assert on_new["accuracy_new"] == pytest.approx((predicted == truth)[new].mean())
    recalls = [(predicted == truth)[new & (truth == k)].mean() for k in range(4)]
    assert on_new["mean_class_accuracy_new"] == pytest.approx(np.mean(recalls))
    kept = store.run(classification(), fabric)
    assert np.array_equal(kept.predictions["classes"], predicted)


def test_a_frozen_backbone_gives_the_same_features_at_once_and_batch_by_batch(store, fabric):
    """The quick way over stored features is the slow way through the frozen network."""
    start = pretraining("moco")
    run = classification(start, "frozen", draw=3)
    quick = store.run(run, fabric)
    seen = task("cells", 0, CPU)
    torch.manual_seed(3)
    trunk = run._backbone(seen, fabric, store)
    scores, curves, _ = run._on_images(trunk, seen, torch.arange(160), fabric)
    assert curves["train_loss"] == pytest.approx(quick.curves["train_loss"], rel=1e-4)
    assert np.array_equal(scores["test"].argmax(dim=1).numpy(), quick.predictions["classes"])


def test_statistics_of_a_frozen_backbone_move_only_where_asked(store, fabric):
    start = pretraining()
    seen = task("cells", 0, CPU)
    for moving in (False, True):
        run = classification(start, "frozen", moving=moving)
        trunk = run._backbone(seen, fabric, store)
        before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
        run._on_images(trunk, seen, torch.arange(160), fabric)
        changed = {n for n, tensor in trunk.state_dict().items() if not tensor.equal(before[n])}
        statistics = {n for n in before if "running" in n or "num_batches" in n}
        assert changed == (statistics if moving else set())


def test_the_weighted_loss_is_the_sources(store, fabric, monkeypatch):
    used = []
    real = F.cross_entropy

    def spy(logits, labels, weight=None):
        used.append(weight)
        return real(logits, labels, weight=weight)

    monkeypatch.setattr(ssl.F, "cross_entropy", spy)
    course = replace(COURSE, epochs=1)
    classification(course=course).execute(fabric, store)
    # Class k weighs (t - e_k) / t with e_k of t images.
    assert used[0].tolist() == pytest.approx([0.5, 0.75, 0.85, 0.9])


def test_probes_and_floors(store, fabric):
    untrained = planning.untrained(SETTINGS, "cells", "resnet18", 0)
    record = store.run(untrained, fabric)
    assert record.metrics == {} and record.cell["method"] == "pretraining of random resnet18"
    for readout in ("linear probe", "kNN"):
        run = classification(untrained, "frozen", readout=readout)
        record = store.run(run, fabric)
        assert record.cell["method"] == f"random resnet18, {readout}"
        # Discs of four sizes are told apart even by random features.
        assert record.metrics["accuracy"] > 0.5


def test_positions_are_aims_alone(store, fabric):
    start = pretraining("aim")
    record = store.run(classification(start, "frozen", positions=True), fabric)
    assert record.cell["method"] == "aim"
    pooled = store.run(classification(start, "frozen"), fabric)
    assert pooled.cell["method"] == "aim, mean of positions"
    with pytest.raises(UserError, match="positions"):
        classification(pretraining(), "frozen", positions=True)


def test_validation_runs_leave_the_test_images_alone(store, fabric, monkeypatch):
    whole = data.load("cells")
    blind = replace(whole, test=replace_images(whole.test))
    start = pretraining(protocol="tuned")
    run = classification(start, "fine-tuned", scored_on="validation", augmented=True)
    seen = store.run(run, fabric)
    task.cache_clear()
    monkeypatch.setattr(data, "load", lambda name: blind)
    again = run.execute(fabric, store)
    task.cache_clear()
    assert again.metrics == seen.metrics
    assert seen.cell["protocol"] == "tuned, scored on validation images"
    assert len(seen.predictions["classes"]) == 40


def replace_images(split):
    return split._replace(images=torch.full_like(split.images, 255))


def test_mae_keeps_what_it_painted(store, fabric):
    record = store.run(pretraining("mae"), fabric)
    assert record.predictions["seen"].shape == record.predictions["painted"].shape == (5, 3, 28, 28)
    assert store.run(pretraining("mae", "tuned"), fabric).predictions == {}


def test_duplicates_are_counted_by_split(store, fabric):
    record = store.run(DuplicateSearch("cells"), fabric)
    assert record.metrics["exact"] == record.metrics["exact_train_valid"] == 1
    found = results.pairs(record)
    assert list(found["split"]) == ["train"] and list(found["other_split"]) == ["valid"]
    assert found["same"].all()


@pytest.mark.parametrize("seed", range(4))
def test_subsets_are_of_one_size_balanced_or_not(seed):
    labels = torch.arange(8).repeat_interleave(
        torch.tensor([852, 2181, 1085, 2026, 849, 993, 2330, 1643])
    )
    chosen = {kind: subset(labels, kind, seed) for kind in ("balanced", "unbalanced")}
    counts = {kind: labels[index].bincount(minlength=8) for kind, index in chosen.items()}
    assert counts["balanced"].tolist() == [400] * 8
    assert abs(len(chosen["unbalanced"]) - 3200) <= 8
    assert counts["unbalanced"].max() / 3200 == pytest.approx(0.66, abs=0.02)
    assert counts["unbalanced"].min() < 60
    assert all(len(index.unique()) == len(index) for index in chosen.values())


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "ours"},
        {"backbone": "thawed"},
        {"network": "vgg"},
        {"readout": "svm"},
        {"scored_on": "train"},
        {"fraction": 0},
        {"draw": -1},
        {"moving": True},
        {"readout": "kNN"},
        {"backbone": "frozen"},
        {"pretraining": pretraining()},
    ],
    ids=str,
)
def test_impossible_classifications_are_refused(change):
    with pytest.raises(UserError):
        replace(classification(), **change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"protocol": "ours"}, "protocol"),
        ({"method": "byol"}, "method"),
        ({"network": "vgg"}, "network"),
        ({"extra": "cats"}, "extra"),
        ({"subset": "half"}, "subset"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_pretraining_is_refused_by_name(change, named):
    with pytest.raises(UserError, match=named):
        replace(pretraining(), **change)


def test_a_classifier_and_its_pretraining_go_together():
    with pytest.raises(UserError, match="images"):
        classification(pretraining(images=50), "frozen")


def test_grey_images_need_a_validation_split(fabric, store):
    with pytest.raises(UserError, match="digits has no validation split"):
        task("digits", 0, CPU)


# The plan


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blood", "cifar"),
        ("blood", "digits"),
        ("derma", "mnist"),
        ("derma", "pneumonia"),
        ("blood", ["bloodmnist"]),
        ("store", "elsewhere"),
        ("device", "tpu"),
        ("precision", "16"),
        ("minutes", "ten"),
        ("minutes", float("nan")),
        ("minutes", float("inf")),
        ("workers", -1),
        ("seeds", 1.5),
        ("epochs", 0),
        ("methods", "simclr"),
        ("methods", ["byol"]),
        ("methods", []),
        ("fractions", [0]),
        ("images", -1),
    ],
)
def test_settings_refuse_what_cannot_be_by_name(key, value):
    with pytest.raises(UserError, match=f"^{key} is "):
        Settings(**{key: value})


def test_a_data_set_that_cannot_be_run_is_refused_with_those_that_can():
    assert Settings(blood="cells", derma="organamnist-64").datasets == ("cells", "organamnist-64")
    with pytest.raises(UserError) as caught:
        Settings(derma="digits")
    listed = str(caught.value).split("allowed: ")[1].split(", ")
    assert {"bloodmnist", "dermamnist", "pneumoniamnist-224", "cells"} <= set(listed)
    assert not {"mnist", "chestmnist", "chestmnist-64"} & set(listed)
    with pytest.raises(UserError, match="chestmnist has several labels per image"):
        Settings(blood="chestmnist-64")


@pytest.mark.parametrize("profile", ["full", "quick", "smoke"])
def test_every_profile_is_possible_and_its_plan_holds_all_it_starts_from(profile):
    runs = planning.plan(Settings(**notebooks.parameters("ssl-medmnist", profile)))
    assert len({run.id for run in runs}) == len(runs)
    order = {run.id: place for place, run in enumerate(runs)}
    assert all(order[need.id] < order[run.id] for run in runs for need in run.needs())
    cells = [(*run.cell().values(), getattr(run, "draw", getattr(run, "seed", 0))) for run in runs]
    assert len(set(cells)) == len(cells)


def test_the_full_profile_is_the_default():
    values = notebooks.parameters("ssl-medmnist", "full")
    assert Settings(**values) == Settings()


def test_the_source_is_repeated_to_the_letter():
    runs = {
        (run.cell()["method"], run.backbone, run.fraction): run
        for run in planning.report_runs(Settings(budget="source"), 0, planning.SOURCE_METHODS)
        if run.dataset == "bloodmnist"
    }
    supervised = runs["supervised", "scratch", 1.0].course.recipe(11_959)
    assert (supervised.rate, supervised.schedule, supervised.momentum) == (0.05, "halved", 0.9)
    assert (supervised.batch_size, supervised.steps) == (128, 100 * 94)
    assert not supervised.nesterov and not supervised.drop_last
    for method in planning.SOURCE_METHODS:
        epochs = 50 if method == "mae" else 100
        head = runs[method, "frozen", 0.25].course.recipe(2990)
        assert (head.optimiser, head.rate, head.momentum) == ("sgd", 0.01, 0.9)
        assert (head.schedule, head.steps, head.drop_last) == ("epoch cosine", epochs * 23, True)
        course = runs[method, "fine-tuned", 1.0].pretraining.course
        recipe = course.recipe(11_959)
        assert (recipe.batch_size, recipe.steps, recipe.schedule) == (128, epochs * 93, "constant")
        if method in ("simclr", "moco"):
            assert (recipe.optimiser, recipe.rate, recipe.momentum) == ("sgd", 0.06, 0.0)
            assert recipe.weight_decay == 0
        else:
            # PyTorch's own weight decay of AdamW.
            assert (recipe.optimiser, recipe.rate) == ("adamw", 1.5e-4)
            assert recipe.weight_decay == 0.01
    assert all(run.probabilities for key, run in runs.items() if key[:2] in FUSED)


FUSED = {("supervised", "scratch"), *((m, "fine-tuned") for m in planning.SOURCE_METHODS)}


def test_every_method_meets_the_same_draws():
    draws = {}
    for run in planning.plan(
        Settings(budget="source", seeds=3, side_seeds=2, tuned_seeds=1, choice_seeds=1)
    ):
        if isinstance(run, Classification):
            assert run.pretraining is None or run.pretraining.seed == run.draw
            draws.setdefault((run.protocol, run.scored_on, run.name), set()).add(run.draw)
    for (protocol, scored_on, name), found in draws.items():
        if scored_on == "validation":
            assert found == {1000}
        elif protocol == "tuned":
            assert found == {0}
        else:
            assert found in ({0, 1, 2}, {0, 1}), name


# Verdicts

GRID = [("supervised", "scratch")] + [
    (method, backbone)
    for method in planning.SOURCE_METHODS
    for backbone in ("frozen", "fine-tuned")
]


def row(dataset, labels, method, backbone, draw, value, **more):
    predictions = {"classes": data.load("cells").test.labels.numpy().astype(np.uint8)}
    record = SimpleNamespace(predictions=predictions, curves={}, config={}, metrics={})
    facts = {"dataset": dataset, "labels": labels, "method": method, "backbone": backbone}
    facts |= {"protocol": "report", "kind": "classes", "draw": draw, "record": record}
    return facts | {"accuracy": value, "mean_class_accuracy": value, "seconds": 1.0} | more


def as_printed(noise=0.001, n=5):
    """Five draws around the source's own figures."""
    rows = []
    for dataset in ("bloodmnist", "dermamnist"):
        for labels in (results.ALL, results.QUARTER):
            extra = [("moco, resnet34", "fine-tuned"), ("moco, extra cells", "fine-tuned")]
            grid = GRID + (extra if dataset == "bloodmnist" else [])
            for k, (method, backbone) in enumerate(grid):
                for draw in range(n):
                    figures = {
                        metric: results.printed(dataset, labels, method, backbone, metric) / 100
                        + noise * (draw - n // 2) * (1 + k / 50)
                        for metric in ("accuracy", "mean_class_accuracy")
                    }
                    rows.append(row(dataset, labels, method, backbone, draw, 0) | figures)
    return pd.DataFrame(rows)


@pytest.fixture
def without_images(monkeypatch):
    """Verdicts from figures alone: no data set is read."""
    unknown = Verdict("not tested", "")
    rows = {
        name: {"claim": published.claim(name), "ours": None, "verdict": unknown, "note": ""}
        for name in ("S12", "S16")
    }
    monkeypatch.setattr(claims, "_trio", lambda *_: rows["S12"])
    monkeypatch.setattr(claims, "_duplicates", lambda *_: rows["S16"])
    monkeypatch.setattr(results, "split_variance", lambda *_: 0.005**2)


def verdicts_of(runs, budget="source"):
    rows = claims.rows(runs, Settings(budget=budget))
    return {row["claim"].id: row["verdict"].word for row in rows}


def test_the_sources_own_figures_confirm_its_claims(without_images):
    found = verdicts_of(as_printed())
    assert list(found) == [f"S{k}" for k in range(1, 21)]
    measured = [f"S{k}" for k in (*range(1, 12), 17, 18, 20)]
    figures = dict.fromkeys(("S1", "S2", "S3", "S20"), "agrees")
    assert {name: found[name] for name in measured} == dict.fromkeys(measured, "holds") | figures
    assert {found[name] for name in found if name not in measured} == {"not tested"}


def reduced(gain):
    """The source's figures at the reduced budget: self-supervision ahead of its controls by
    ``gain`` points of mean class accuracy."""
    runs = as_printed()
    own = runs["method"] != "supervised"
    runs.loc[own, "protocol"] = "reduced"
    controls = []
    for method in planning.SOURCE_METHODS:
        mine = own & (runs["method"] == method) & (runs["backbone"] == "fine-tuned")
        name, _ = claims.control((method, "fine-tuned"), Settings())
        control = runs[mine].assign(method=name)
        control["mean_class_accuracy"] -= gain / 100 + 0.001 * (control["draw"] % 3 - 1)
        controls.append(control)
    # SimCLR and MoCo have one control: the first is kept.
    frame = pd.concat([runs, *controls])
    keys = ["dataset", "labels", "method", "backbone", "draw"]
    return frame.drop_duplicates(keys)


def test_at_the_reduced_budget_figures_are_not_scored_and_being_behind_is_a_bound(without_images):
    rows = {row["claim"].id: row for row in claims.rows(reduced(3), Settings())}
    words = {name: row["verdict"].word for name, row in rows.items()}
    assert words["S20"] == "not tested" and words["S1"] == "agrees"
    # Frozen backbones do not reach the supervised network, nor does any on DermaMNIST: a bound.
    assert words["S4"] == words["S10"] == "undecided"
    assert "a bound only" in rows["S10"]["verdict"].reason
    assert words["S5"] == words["S11"] == "holds"
    assert "random narrow ViT (fine-tuned)" in rows["S11"]["note"]
    assert "Beside the control: MAE (fine-tuned) against supervised" in rows["S11"]["note"]
    assert rows["S11"]["protocol"] == "reduced" and rows["S1"]["protocol"] == "report"
    by_key = {figure.key: figure.instead for figure in rows["S10"]["figures"]}
    assert by_key["best_ssl"] == claims.SMALLER and by_key["supervised"] is None


def test_at_the_reduced_budget_a_gain_is_judged_against_the_control(without_images):
    assert verdicts_of(reduced(-3), "reduced")["S11"] == "opposite"
    assert verdicts_of(reduced(0), "reduced")["S11"] == "no difference"


def test_one_cell_that_is_the_other_way_refutes_a_claim_about_all(without_images):
    runs = as_printed()
    here = (runs["dataset"] == "dermamnist") & (runs["labels"] == results.QUARTER)
    here &= (runs["method"] == "aim") & (runs["backbone"] == "frozen")
    runs.loc[here, "mean_class_accuracy"] += 0.5
    found = verdicts_of(runs)
    assert found["S4"] == found["S5"] == "opposite"
    assert found["S6"] == "holds"


def test_without_runs_every_claim_is_not_tested(without_images):
    empty = results.frame([], [])
    assert set(verdicts_of(empty).values()) == {"not tested"}


def test_classes_that_are_mixed_up_more_than_others():
    truth = data.load("cells").test.labels.numpy()
    predicted = truth.copy()
    # Half of class 0 is taken for class 2, nothing else is wrong.
    zero = np.flatnonzero(truth == 0)
    predicted[zero[: len(zero) // 2]] = 2
    record = SimpleNamespace(predictions={"classes": predicted.astype(np.uint8)})
    rows = pd.DataFrame([{"draw": 7, "record": record}])
    # 0 -> 2 and 2 -> 0 are the two places of the pair.
    assert results.mixed_up(rows, "cells", (0, 2)) == {7: pytest.approx(0.25)}
    assert results.mixed_up(rows, "cells", (1, 3))[7] < 0


def test_every_printed_figure_has_a_cell_of_ours():
    table = published.ssl_medmnist()
    table = table[~table["method"].str.startswith("fusion")]
    found = 0
    for run in planning.plan(
        Settings(budget="source", seeds=1, side_seeds=1, tuned_seeds=0, choice_seeds=0)
    ):
        cell = run.cell()
        if run.kind == "classes" and cell["labels"] in results.PRINTED_LABELS:
            given = (cell["dataset"], cell["labels"], cell["method"], cell["backbone"])
            found += results.printed(*given) is not None
    assert found == len(table[table["metric"] == "mean_class_accuracy"])


def test_a_method_has_a_name_for_readers():
    assert results.named("moco, resnet34", "frozen") == "MoCo, ResNet-34 (frozen)"
    assert results.named("random vit-b32", "frozen") == "random ViT-B/32 (frozen)"
    assert results.named("supervised", "scratch") == "supervised"


def test_tables_without_runs_say_so():
    empty = results.frame([], [])
    for table in (
        show.report_table(empty, SETTINGS, "bloodmnist", results.ALL),
        show.recalls_table(empty, SETTINGS, "dermamnist"),
        show.floors_table(empty, SETTINGS),
        show.side_table(empty, SETTINGS),
        show.comparisons_table(empty, SETTINGS),
        show.tuned_table(empty, SETTINGS),
        show.choices_table(empty, SETTINGS),
        show.cost_table(empty, SETTINGS),
        show.duplicates_table(empty, SETTINGS),
    ):
        assert "not run" in str(table)


@pytest.mark.parametrize(
    ("offset", "side"), [(-0.02, "above"), (-0.001, "inside"), (0.02, "below")]
)
def test_a_frozen_figure_is_held_against_one_more_untrained_run(offset, side, without_images):
    where = ("bloodmnist", results.QUARTER)
    figure = results.printed(*where, "moco", "frozen") / 100
    runs = pd.DataFrame(
        row(*where, "random resnet18", "frozen", draw, figure + offset + 0.001 * (draw - 1))
        for draw in range(3)
    )
    found = show.floors(runs, Settings()).set_index(["dataset", "labels", "method"])["side"]
    assert found["bloodmnist", "a quarter of the labels", "moco"] == side
    assert (found == "not run").sum() == len(found) - 2, "SimCLR has the same backbone"
    assert ("MoCo" in show.floors_in_words(runs, Settings())) == (side != "above")


def test_the_luck_of_two_test_splits_by_hand(monkeypatch):
    whole = SimpleNamespace(test=SimpleNamespace(labels=torch.tensor([0] * 100 + [1] * 25)))
    monkeypatch.setattr(results.data, "load", lambda name: whole)
    runs = pd.DataFrame([{"dataset": "cells", "recall_class_0": 0.5, "recall_class_1": 0.8}])
    # Variances of the recalls: 0.25 / 100 and 0.16 / 25.
    classes = 2 * (0.0025 + 0.0064) / 4
    images = 2 * (0.64 * 0.0025 + 0.04 * 0.0064)
    assert results.split_variance(runs, "mean_class_accuracy") == pytest.approx(classes)
    assert results.split_variance(runs, "accuracy") == pytest.approx(images)


def test_the_method_in_the_summary_is_chosen_on_validation_images():
    where = ("bloodmnist", results.QUARTER)
    rows = [row(*where, "supervised", "scratch", 0, 0.6)]
    for method, scored, validated in (("simclr", 0.9, 0.5), ("moco", 0.7, 0.6)):
        rows.append(row(*where, method, "fine-tuned", 0, scored))
        rows[-1]["record"].curves["valid_accuracy"] = [0.1, validated]
    method, difference = show._best(results.classes(pd.DataFrame(rows), *where), Settings())
    assert method == "moco"
    assert difference.mean == pytest.approx(0.1)


def test_the_full_profile_starts_no_run_by_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))

    def refuse(*given, **named):
        raise AssertionError("a run was started")

    monkeypatch.setattr(results, "run_all", refuse)
    monkeypatch.setattr(Store, "run", refuse)
    assert Settings().minutes == 0
    shown = results.measure(replace(SETTINGS, minutes=0.0))
    assert len(shown) == 0
    with pytest.raises(AssertionError, match="a run was started"):
        results.measure(replace(SETTINGS, minutes=-1.0))


def test_one_more_method_takes_its_file_and_a_line_in_the_table(store, fabric, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", METHODS["vicreg"])
    settings = replace(SETTINGS, methods=["mine"], side_seeds=0)
    runs = planning.plan(settings)
    records = [store.run(run, fabric) for run in runs]
    found = results.frame(runs, records)
    for labels in (results.ALL, results.QUARTER):
        assert "mine (fine-tuned)" in str(show.report_table(found, settings, "bloodmnist", labels))
    assert show.tuned_curve(found, settings, "cells").axes
    show.figures.METHODS.pop("mine")


@pytest.mark.parametrize("protocol", ["report", "tuned"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_in_bfloat16_as_well(store, method, protocol):
    half = Fabric(accelerator="cpu", precision="bf16-mixed")
    start = pretraining(method, protocol, epochs=1, seed=9)
    record = store.run(start, half)
    assert math.isfinite(record.metrics["train_loss"])
    for backbone in ("frozen", "fine-tuned"):
        run = classification(start, backbone, draw=9, course=replace(COURSE, epochs=1))
        assert store.run(run, half).hardware["precision"] == "bf16-mixed"
    weights = store.weights(start, half)
    assert {tensor.dtype for tensor in weights.values()} <= {torch.float32, torch.int64}


def test_the_plan_has_the_sources_grid_first_and_everything_behind_what_it_needs():
    runs = planning.plan(Settings())
    place = {run: i for i, run in enumerate(runs)}
    assert all(place[need] < place[run] for run in runs for need in run.needs())
    trained = [run for run in runs if isinstance(run, Pretraining) and run.course.epochs]
    draws, sets = range(3), 2
    own, others = (
        [(method, draw) for draw in draws for _ in range(sets) for method in methods]
        for methods in (planning.SOURCE_METHODS, ("rotation", "vicreg"))
    )
    assert [(run.method, run.seed) for run in trained[: len(own + others)]] == own + others


def test_the_networks_have_the_sizes_that_the_source_prints():
    whole = replace(SETTINGS, tiny=False, methods=["moco", "aim", "mae"])
    frame = show.sizes_table(whole).frame.set_index("Method")
    assert frame["Pretext task"].tolist() == frame["Pretext task, source"].tolist()
    assert frame.loc["AIM", "Backbone"] == "11.6"
    # Its last layer, 768 x 1,000 weights and 1,000 biases, is left out.
    assert float(frame.loc["MAE", "Backbone"]) + 0.769 == pytest.approx(88.2, abs=0.05)
