"""The card that a link to the book is shown with."""

from PIL import Image

from fewlabels import paths
from fewlabels.book import card, ledger


def test_the_committed_card_says_what_the_ledger_says():
    assert not card.stale(), "`fewlabels summary`"
    assert card.file().stat().st_size < 200_000
    with Image.open(card.file()) as image:
        assert image.size == (1200, 630)


def test_a_card_is_drawn_from_the_ledger(tmp_path, monkeypatch):
    table = ledger.read()
    kept = table[table["claim"].isin(["R1", "R10", "C5", "A1", "S16"])]
    monkeypatch.setattr(ledger, "read", lambda: kept)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "styles").mkdir()
    of = dict(zip(kept["claim"], kept["verdict"], strict=True))
    assert (of["R10"], of["C5"], of["S16"]) == ("holds", "contradicted", "not tested")
    # A1 is a question.
    assert card.said() == "4 claims: 1 confirmed, 1 refuted, 1 undecided, 1 not tested"
    card.write()
    assert not card.stale()
    monkeypatch.setattr(ledger, "read", lambda: table)
    assert card.stale()
