"""`fewlabels verify` on a toy book whose claim, tables and frozen page are made from its records,
and on forgeries of each of them; and on the committed book."""

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar
from urllib.error import URLError

import numpy as np
import pytest
import yaml
from lightning.fabric import Fabric
from torchvision.datasets import MNIST

from fewlabels import chapters, data, paths
from fewlabels.book import card, freeze, integrity, ledger, notebooks, summary
from fewlabels.book.cli import main
from fewlabels.evidence import verdicts
from fewlabels.evidence.verdicts import Printed, Verdict
from fewlabels.learn import evaluation
from fewlabels.reference import published
from fewlabels.runs import manifest, reading
from fewlabels.runs.records import Experiment, Outcome, Store

CLAIM = {
    "id": "T1",
    "source": "toy",
    "chapter": "toy",
    "claim": "It reads digits.",
    "published": {"accuracy": 60},
    "decide": "Accuracy of the toy.",
    "kind": "figure",
    "luck": "run",
}

MARGINS = {"accuracy": {"margin": 3, "why": "of a toy"}}


@dataclass(frozen=True)
class Reader(Experiment):
    """Names the test digits of scikit-learn's set, right in six of ten."""

    kind: ClassVar[str] = "digits"
    recipe: ClassVar[int] = 1

    draw: int

    def cell(self):
        return {"dataset": "digits", "labels": 100, "method": "guess", "protocol": "report"}

    def execute(self, fabric, store):
        truth = data.load("digits").test.labels.numpy()
        rng = np.random.default_rng(self.draw)
        predicted = np.where(rng.random(len(truth)) < 0.6, truth, (truth + 1) % 10)
        metrics = evaluation.of_classes(predicted, truth, 10) | {"auc": 0.75}
        return Outcome(metrics, predictions={"classes": predicted.astype(np.uint8)})


@pytest.fixture
def forged(toy, tmp_path, monkeypatch):
    """The toy book with three runs, one claim on them, its tables, and a frozen page."""
    reference = tmp_path / "claims.yaml"
    monkeypatch.setattr(published, "CLAIMS", reference)
    write_claims(reference, CLAIM)
    known = chapters.load("toy")
    monkeypatch.setattr(known, "plan", lambda settings: [Reader("digits", k) for k in range(3)])
    monkeypatch.setattr(notebooks, "evaluate", lambda *given: {"claims": [entry(made())]})
    monkeypatch.setattr(card, "stale", lambda: False)  # It is the book's, see test_card.py.
    store, fabric = Store(paths.RESULTS / "toy"), Fabric(accelerator="cpu")
    for run in known.plan(None):
        store.run(run, fabric)
    summary.write()
    ledger.write()
    for name in chapters.names():
        page = notebooks.frozen(chapters.notebook(name)) / "execute-results" / "html.json"
        page.parent.mkdir(parents=True)
        page.write_text('{"result": {"markdown": "Accuracy is 60.1%, printed 60%."}}')
    freeze_again()
    yield reference
    published._document.cache_clear()


def write_claims(reference, *claims):
    reference.write_text(
        yaml.safe_dump({"sources": {"toy": "A toy"}, "margins": MARGINS, "claims": [*claims]})
    )
    published._document.cache_clear()


def made():
    store = Store(paths.RESULTS / "toy")
    return [store.get(run) for run in chapters.load("toy").plan(None)]


def entry(found):
    values = [100 * record.metrics["accuracy"] for record in found]
    return {
        "claim": published.claim("T1"),
        "ours": f"{np.mean(values):.1f}",
        "n": len(values),
        "verdict": Verdict(verdicts.DIFFERENCE_WORDS[0], "made up"),
        "figures": [Printed("accuracy", values, 1)],
    }


def freeze_again():
    """What freezing leaves, on the page as it is."""
    for name in chapters.names():
        file = notebooks.frozen(chapters.notebook(name)) / freeze.FINGERPRINT
        file.write_text(json.dumps(freeze.fingerprint(name)))


def first():
    return sorted((paths.RESULTS / "toy").glob("*.json"))[0]


def mend(path, change):
    """Change a record and make its checksum again."""
    record = json.loads(path.read_text())["record"]
    change(record)
    body = json.dumps(record, indent=1, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(f'{{"format": 1, "sha256": "{digest}", "record":\n{body}\n}}\n')


def wrong(*parts):
    """Lines of `verify`, each of which holds one of the parts, and no other."""
    found = integrity.verify().wrong
    assert len(found) == len(parts), found
    for line, part in zip(found, parts, strict=True):
        assert part in line
    assert main(["verify"]) == 1


def refuse(command, told, capsys):
    """A command that reads ends with status 2 and touches nothing."""
    before = {path: path.read_bytes() for path in paths.RESULTS.rglob("*") if path.is_file()}
    assert main([command]) == 2
    assert told in capsys.readouterr().err
    assert before == {
        path: path.read_bytes() for path in paths.RESULTS.rglob("*") if path.is_file()
    }


def test_an_honest_book_agrees(forged, capsys):
    assert integrity.verify().wrong == []
    assert main(["verify"]) == 0
    told = capsys.readouterr().out
    assert "3 records; 18 of their metrics made again" in told
    assert "digits: nothing kept to make 3 again (auc)" in told
    assert told.endswith("everything agrees\n")


def test_a_metric_edited_or_a_record_truncated(forged, capsys):
    text = first().read_text()
    for damaged in (text.replace('"accuracy": 0.', '"accuracy": 0.9'), text[: len(text) // 2]):
        first().write_text(damaged)
        found = integrity.verify().wrong
        assert f"results/toy/{first().name} is not the record that MANIFEST lists" in found[0]
        assert any(f"{first().name} is damaged" in line for line in found[1:])
        for command in ("claims", "summary"):
            refuse(command, first().name, capsys)


def better(record):
    record["metrics"]["accuracy"] += 0.01


def test_a_metric_edited_with_its_checksum_made_again(forged, capsys):
    mend(first(), better)
    found = integrity.verify().wrong
    assert "is not the record that MANIFEST lists" in found[0]
    assert "accuracy is 0.596, and what is kept gives 0.586" in found[1]
    assert any("results/summary.csv" in line for line in found)
    assert any("results/claims.csv" in line for line in found)
    assert any(f"record {first().stem} changed" in line for line in found)
    for command in ("claims", "summary"):
        refuse(command, first().name, capsys)


def forge_tables():
    manifest_line = manifest.path().read_text()
    manifest.path().unlink()
    summary.write()
    ledger.write()
    freeze_again()
    return manifest_line


def test_and_tables_and_fingerprint_made_again_too(forged):
    mend(first(), better)
    listed = forge_tables()
    # Even with a new MANIFEST, which a release before it betrays, the predictions speak.
    wrong(f"results/toy/{first().name}: accuracy is 0.596")
    manifest.path().write_text(listed)
    wrong(f"{first().name} is not the record that MANIFEST lists", "accuracy is 0.596")


def test_predictions_left_out_or_cut_short_are_no_excuse(forged):
    def cut(record):
        record["predictions"]["classes"] = reading._pack(np.zeros(3, dtype=np.uint8))

    for change in (cut, lambda record: record.update(predictions={})):
        mend(first(), change)
        forge_tables()
        wrong(f"results/toy/{first().name}: ")


def test_and_of_a_metric_that_nothing_is_kept_of(forged):
    def change(record):
        record["metrics"]["auc"] += 0.01

    mend(first(), change)
    listed = forge_tables()
    manifest.path().write_text(listed)
    wrong(f"{first().name} is not the record that MANIFEST lists")


def test_the_printed_figure_edited(forged):
    write_claims(forged, CLAIM | {"published": {"accuracy": 61}})
    wrong(
        "results/claims.csv has 1 row that no record gives: T1 toy toy figure accuracy 60",
        "results/claims.csv has 1 row too few: T1 toy toy figure accuracy 61",
        "_freeze, toy: stale: claim T1 changed",
    )


def test_a_rule_for_all_claims_edited(forged):
    document = yaml.safe_load(forged.read_text())
    forged.write_text(
        yaml.safe_dump(document | {"margins": {"accuracy": {"margin": 30, "why": ""}}})
    )
    published._document.cache_clear()
    wrong(
        "results/claims.csv has 1 row that no record gives: T1 toy toy figure accuracy 60",
        "results/claims.csv has 1 row too few: T1 toy toy figure accuracy 60",
        "_freeze, toy: stale: claims.yaml changed",
    )


def test_a_frozen_page_edited(forged):
    page = next(paths.FREEZE.rglob("html.json"))
    page.write_text(page.read_text().replace("60.1", "61.3"))
    wrong("stale: frozen execute-results/html.json changed")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("summary.csv", "0.6", "0.7"),
        ("claims.csv", *(f",{w}," for w in verdicts.DIFFERENCE_WORDS[:2])),
    ],
)
def test_one_number_of_a_table_edited(forged, file, old, new):
    path = paths.RESULTS / file
    path.write_text(path.read_text().replace(old, new, 1))
    wrong(f"results/{file} has 1 row that no record gives", f"results/{file} has 1 row too few")


def test_a_row_of_a_table_doubled(forged):
    path = paths.RESULTS / "summary.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    wrong("results/summary.csv has 1 row that no record gives")


def test_a_record_copied_under_another_name(forged):
    copy = first().with_name("digits-0123456789ab.json")
    copy.write_bytes(first().read_bytes())
    wrong(
        "results/toy/digits-0123456789ab.json is not in MANIFEST",
        f"lies under another name than its own, {sorted(paths.RESULTS.glob('toy/*'))[1].name}",
    )


def test_a_record_copied_into_another_chapter(forged):
    copy = paths.RESULTS / "zoo" / first().name
    copy.parent.mkdir()
    copy.write_bytes(first().read_bytes())
    wrong(f"results/zoo/{copy.name} is not in MANIFEST", "another chapter has a record")


def test_a_record_that_counts_towards_other_runs(forged):
    mend(first(), lambda record: record["cell"].update(method="ours"))
    forge_tables()
    wrong("counts itself towards other runs")


def test_a_record_removed(forged, capsys):
    name = first().name
    first().unlink()
    found = integrity.verify().wrong
    assert f"results/toy/{name} is missing, a record that MANIFEST lists" in found
    for command in ("claims", "summary"):
        refuse(command, name, capsys)


def test_a_claim_added(forged, capsys):
    write_claims(forged, CLAIM, CLAIM | {"id": "T2"})
    wrong("results/claims.csv: toy has other claims", "_freeze, toy: stale: claim T2 added")
    refuse("claims", "no chapter gives a verdict on T2", capsys)


def test_an_id_twice(forged, capsys):
    write_claims(forged, CLAIM, CLAIM | {"published": {"accuracy": 1}})
    wrong("claims.yaml has two claims T1")
    refuse("claims", "claims.yaml has two claims T1", capsys)


@pytest.mark.parametrize("edited", [b" toy", b"  toy\xff"])
def test_a_line_of_the_manifest_edited(forged, capsys, edited):
    path = manifest.path()
    path.write_bytes(path.read_bytes().replace(b"  toy", edited, 1))
    found = integrity.verify().wrong
    assert "MANIFEST, line 1: expected a sha256" in found[0]
    refuse("summary", "MANIFEST, line 1", capsys)


def test_without_the_labels_it_says_what_was_not_compared(forged, monkeypatch):
    def gone(name):
        raise integrity.UserError("digits is missing")

    monkeypatch.setattr(data, "load", gone)
    report = integrity.verify()
    assert report.wrong == [] and report.again == 0
    assert report.unchecked == {"digits is missing": 3}
    assert "not compared here, 3 times: digits is missing" in integrity.in_words(report)


def test_without_the_labels_another_error_is_still_one(forged, monkeypatch):
    def fail(reason):
        def failing(name):
            raise integrity.UserError(reason)

        return failing

    monkeypatch.setattr(data, "load", fail("digits is missing"))
    monkeypatch.setattr(integrity.ledger, "rows", fail("digits is missing"))
    monkeypatch.setattr(integrity.summary, "rows", fail("a cell is gone"))
    report = integrity.verify()
    assert {*report.wrong} == {"results/summary.csv cannot be made again: a cell is gone"}
    assert report.unchecked.keys() == {"digits is missing"}


def test_without_a_network_a_file_is_asked_for_once_and_not_for_every_record(forged, monkeypatch):
    asked = []

    def offline(*given, **more):
        asked.append(given)
        raise URLError("no route")

    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    monkeypatch.setattr(data.digits, "load", data.mnist.load)
    data._load.cache_clear()
    report = integrity.verify()
    assert report.wrong == []
    ((why, count),) = report.unchecked.items()
    assert "no route" in why and count == 3
    # One archive, which is looked for on every mirror; the next is then not tried.
    assert len(asked) == len(MNIST.mirrors)
    integrity.verify()
    assert len(asked) == len(MNIST.mirrors)


# The book


@pytest.fixture(scope="module")
def book():
    return integrity.verify()


def test_every_committed_record_is_listed_and_its_metrics_follow_from_what_it_keeps(book):
    """Where a data set is not on this machine, its records are listed but not made again."""
    tables = ("results/summary.csv", "results/claims.csv", "_freeze")
    assert [line for line in book.wrong if not line.startswith(tables)] == []
    assert book.records == len(manifest.listed()) > 1000
    assert book.again > 10_000 or book.unchecked


def test_the_committed_tables_and_pages_say_what_the_records_say(book):
    assert book.wrong == []
