"""Without a network: what cannot be downloaded is tried once in a process, and told every time."""

from urllib.error import URLError

import pytest

from fewlabels import data, files
from fewlabels.data import photographs
from fewlabels.errors import UserError
from fewlabels.nets.pretrained import Pretrained, backbone


@pytest.mark.parametrize(
    "ask",
    [
        data.DATASETS["mnist"].load,
        data.DATASETS["fashion"].load,
        data.DATASETS["dermamnist"].load,
        data.DATASETS["pneumonia_64"].load,
        lambda: photographs.load("caltech101", ("anchor", "barrel"), 36),
        lambda: backbone(Pretrained("resnet18")),
    ],
)
def test_what_cannot_be_downloaded_is_tried_once_and_told_every_time(ask, tmp_path, monkeypatch):
    asked = []

    def offline(*given, **more):
        asked.append(given)
        raise URLError("no route")

    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    told, counts = [], []
    for _ in range(3):
        with pytest.raises(UserError, match="could not be downloaded") as error:
            ask()
        told.append(str(error.value))
        counts.append(len(asked))
    assert len({*told}) == 1 and "\n" not in told[0]
    assert told[0].endswith("A new start tries again.")
    assert counts[0] > 0 and counts == counts[:1] * 3
    # As in a new process.
    files._NOT_FETCHED.clear()
    with pytest.raises(UserError, match="could not be downloaded"):
        ask()
    assert len(asked) == 2 * counts[0]


def test_what_was_refused_before_the_network_is_asked_is_told_as_it_is(tmp_path):
    def refuse():
        with files.download(tmp_path, "It", "Do something else."):
            raise files.DiskError("the disk is full")

    for _ in range(2):
        with pytest.raises(files.DiskError, match="full"):
            refuse()
