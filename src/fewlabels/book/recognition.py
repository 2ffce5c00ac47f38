"""New photographs: what ``fewlabels classify IMAGE...`` does (question D5 of chapter 4)."""

from collections.abc import Iterator
from typing import Any

from fewlabels.chapters import few_data_caltech as chapter
from fewlabels.kinds.recognition import recogniser_of
from fewlabels.nets.recogniser import Answer, Recogniser
from fewlabels.runs.sweep import fabric_on


def prepared(values: dict[str, Any]) -> Recogniser:
    """The network of the first split's run, with the weights it left in the cache.

    Where the cache has none it is trained first (seconds, after the data and the pretrained
    weights are there).

    Args:
        values: the chapter's parameters.

    Raises:
        UserError: data, pretrained weights or a device that cannot be had.
    """
    settings = chapter.Settings(**values)
    fabric = fabric_on(settings.device, settings.precision)
    return recogniser_of(chapter.features(settings, split=0), fabric, chapter.store(settings))


def in_words(answer: Answer) -> Iterator[str]:
    """Lines for a terminal: the file, what was done to it, and every class with its confidence."""
    remarks = f"  ({', '.join(answer.remarks)})" if answer.remarks else ""
    yield f"{answer.path}{remarks}"
    wide = max(len(name) for name, _ in answer.ranking)
    for name, probability in answer.ranking:
        yield f"  {name:{wide}}  {100 * probability:5.1f}%"
