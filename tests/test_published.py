import dataclasses
from collections import Counter

import pytest

from fewlabels.errors import UserError
from fewlabels.reference import published


def test_every_claim_parses():
    claims = published.claims()
    assert Counter(claim.chapter for claim in claims.values()) == {
        "rotnet-mnist": 21,
        "rotation-equivariance": 10,
        "chest-xray-transfer": 14,
        "ssl-medmnist": 74,
        "fusion": 21,
        "few-data-caltech": 7,
        "autoencoders-vae": 4,
    }
    for id, claim in claims.items():
        assert id == claim.id
        assert claim.source in published.sources()
        assert claim.text and claim.decide
        assert claim.published is None or isinstance(claim.published, dict)


def test_a_claim_that_no_run_can_judge_says_why():
    for id, claim in published.claims().items():
        word, reason = claim.open or ("", "")
        assert (word in ("not tested", "not identifiable") and reason) or not claim.open, id
        # What can be judged says how; a figure and a count by what is printed.
        judged = claim.direction or claim.published or claim.kind in ("count", "time")
        assert claim.open or judged, id
    assert published.claim("S22").open[0] == "not identifiable"
    assert published.claim("R1").open is None


# The result tables of the sources, as printed: rows of classes and summaries, cells of a grid.
ROTNET = {"rotnet": 10 + 3, "cnn": 10 + 3}
SSL = {  # data set -> classes; every row has these, accuracy and the mean
    "bloodmnist": 8,
    "dermamnist": 7,
}


def test_every_number_of_the_result_tables_is_in_the_reference():
    rotnet = published.rotnet_mnist().query("task == 'digits'")
    assert rotnet.groupby("model").size().to_dict() == ROTNET
    whole = rotnet[rotnet["class"] != "accuracy"]
    assert whole[["precision", "recall", "f1", "support"]].notna().all(axis=None)
    ssl = published.ssl_medmnist()
    for (dataset, labels, method, backbone), rows in ssl.groupby(
        ["dataset", "labels", "method", "backbone"]
    ):
        named = f"{dataset} {labels} {method} {backbone}"
        assert rows["metric"].is_unique and rows["value_percent"].notna().all(), named
        assert len(rows) == SSL[dataset] + 2, named
    # One supervised model, four methods frozen and fine-tuned and three fusions in every cell;
    # beside them ResNet-34 and the extra cells, on the first set.
    assert ssl.groupby(["dataset", "labels"])["method"].nunique().to_dict() == {
        ("bloodmnist", "full"): 8 + 2,
        ("bloodmnist", "quarter"): 8 + 2,
        ("dermamnist", "full"): 8,
        ("dermamnist", "quarter"): 8,
    }
    chest = published.chest_xray().groupby("model")["metric"].agg(list)
    for metrics in chest:
        figures = {"loss", "accuracy", "balanced_accuracy", "f1", "cohen_kappa"}
        assert figures <= {*metrics}
        rates = {f"{r}_{c}" for r in ("precision", "recall", "f1") for c in ("normal", "pneumonia")}
        assert rates <= {*metrics}


def test_an_id_twice_is_refused(monkeypatch):
    document = published._document()
    twice = document | {"claims": [*document["claims"], document["claims"][3]]}
    monkeypatch.setattr(published, "_document", lambda: twice)
    with pytest.raises(UserError, match="two claims R4"):
        published.claims()


def test_a_chapters_digest_follows_its_own_claims_and_the_rules_for_all(monkeypatch):
    before = published.digests("fusion")
    assert list(before) == [*(f"claim F{k}" for k in range(1, 22)), "claims.yaml"]
    document = published._document()
    first, *rest = document["claims"]
    changed = document | {"claims": [first | {"claim": "Another."}, *rest], "more": 1}
    monkeypatch.setattr(published, "_document", lambda: changed)
    after = published.digests("fusion")
    assert {name for name in before if before[name] != after[name]} == {"claims.yaml"}
    assert published.digests("replication-ledger") == {}


def test_a_claim_in_full():
    assert published.claim("R3") == published.Claim(
        id="R3",
        source="rotnet",
        chapter="rotnet-mnist",
        text="With frozen convolutions and 100 labels, RotNet classifies digits with 73% accuracy.",
        published={"accuracy": 73},
        decide="same protocol, many label draws and seeds",
        kind="figure",
        luck="network",
        erratum="of the 100 images its code trains on 80 and validates on 20",
    )
    assert published.claim("R1").margin == {"accuracy": 1}
    assert published.claim("R1").margin_why == "the printed error is 2%"
    assert published.claim("D2").hypothesis.endswith("raises test accuracy.")
    assert published.claim("S4").reduced == "bound"
    assert published.claim("C1").erratum.endswith("balanced accuracy 0.725")
    with pytest.raises(dataclasses.FrozenInstanceError):
        published.claim("R3").text = "something else"


def test_claims_of_a_chapter_keep_the_order_of_the_file():
    assert list(published.claims("rotnet-mnist")) == [f"R{n}" for n in range(1, 22)]


def test_unknown_names_list_what_exists():
    with pytest.raises(UserError, match=r"no claim 'R99'.*R1, R2.*A4"):
        published.claim("R99")
    with pytest.raises(UserError, match=r"'mnist'.*rotnet-mnist, .*fusion"):
        published.claims("mnist")


def test_printed_figures_keep_their_units():
    rotnet = published.rotnet_mnist().set_index(["model", "task", "class"])
    assert rotnet.loc[("rotnet", "digits", "5"), "recall"] == 0.49
    assert rotnet.loc[("cnn", "digits", "accuracy"), "f1"] == 0.75
    ssl = published.ssl_medmnist().set_index(["dataset", "labels", "method", "backbone", "metric"])
    cell = ("bloodmnist", "full", "moco", "finetuned", "accuracy")
    assert ssl.loc[cell, "value_percent"] == 94.91
    chest = published.chest_xray().set_index(["model", "metric"])["value"]
    assert chest["resnet50_transfer", "accuracy"] == 0.779
    assert chest["resnet50_transfer", "true_normal_pred_normal"] == 119
    by_class = published.chest_xray_classes("cnn_scratch").set_index("class")
    assert by_class.loc["NORMAL"].to_dict() == {"precision": 0.98, "recall": 0.25, "f1": 0.40}


def test_claims_agree_with_the_printed_tables():
    """The two files were typed in separately: where both print a figure, it is the same one."""
    ssl = published.ssl_medmnist().set_index(["dataset", "labels", "method", "backbone", "metric"])
    for id, labels in {"S1": "full", "S2": "quarter"}.items():
        for metric, figure in published.claim(id).published.items():
            printed = ssl.loc[("bloodmnist", labels, "supervised", "scratch", metric)]
            assert printed["value_percent"] == figure
    rotnet = published.rotnet_mnist().set_index(["model", "task", "class"])
    r3 = published.claim("R3").published["accuracy"]
    assert 100 * rotnet.loc[("rotnet", "digits", "accuracy"), "f1"] == r3
    assert 100 * rotnet.loc[("rotnet", "digits", "5"), "recall"] == 49


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mean_class_accuracy_quarter", "class mean, a quarter"),
        ("epoch_mae_finetuned", "epoch MAE fine-tuned"),
        ("cohen_kappa", "kappa"),
        ("rotation_f1", "rotation F1"),
    ],
)
def test_names_of_printed_quantities_are_spelled_out(name, words):
    assert published.spelled(name) == words


def test_a_claim_about_a_product_names_its_members_as_its_rule_does():
    for claim in published.claims("fusion").values():
        rule = claim.direction or ""
        if rule.startswith(("product of SimCLR and MoCo", "product of AIM and MAE")):
            one, other = rule.split()[2:5:2]
            assert one in claim.text and other in claim.text, claim.id
