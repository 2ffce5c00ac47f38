"""Question D5 as a command: ``fewlabels classify IMAGE...``."""

from collections.abc import Iterator
from typing import Any

from fewlabels.chapters.few_data_caltech import planning
from fewlabels.chapters.few_data_caltech.planning import Settings
from fewlabels.experiments.few_photographs import recogniser_of
from fewlabels.recognition import Answer, Recogniser
from fewlabels.sweep import fabric_on


def prepared(values: dict[str, Any]) -> Recogniser:
    """The network of the first split's run, with the weights it left in the cache.

    Where the cache has none it is trained first (seconds, after the data and the pretrained
    weights are there).

    Args:
        values: the chapter's parameters.

    Raises:
        UserError: data, pretrained weights or a device that cannot be had.
    """
    settings = Settings(**values)
    fabric = fabric_on(settings.device, settings.precision)
    run = planning.recogniser(settings)
    return recogniser_of(run, fabric, planning.store(settings))


def in_words(answer: Answer) -> Iterator[str]:
    """Lines for a terminal: the file, what was done to it, and every class with its confidence."""
    remarks = f"  ({', '.join(answer.remarks)})" if answer.remarks else ""
    yield f"{answer.path}{remarks}"
    wide = max(len(name) for name, _ in answer.ranking)
    for name, probability in answer.ranking:
        yield f"  {name:{wide}}  {100 * probability:5.1f}%"
