"""A graph of runs, each behind those whose weights it needs, onto an executor."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import ExitStack
from itertools import islice

from fewlabels.runs.executors import Place, was_killed
from fewlabels.runs.records import Experiment


def computed(
    runs: Sequence[Experiment],
    place: Place,
    submit: Callable[[Executor, int], Future],
    may_start: Callable[[int], bool],
    cancelled: Callable[[Executor], bool],
    killed: Callable[[int], None],
) -> Iterator[tuple[int, object]]:
    """Positions of runs with what they return, as they end; None does not count as made.

    Whenever there is room, the first run is started that can be. A run that needs one that was not
    made is never started. An error of a run surfaces at once. Where a process is killed, those that
    were under way are tried again, one at a time; the one that is under way then is at fault if it
    happens again.

    Args:
        runs: each once, behind what it needs; needs that are not among them are there already.
        submit: starts the run at a position.
        may_start: whether the run at a position may start now.
        cancelled: whether to give up those that were handed over: on a cluster that sees nothing
            else, or where none has begun.
        killed: told of a run whose process was killed each time.
    """
    position = {run: i for i, run in enumerate(runs)}
    needs = [{position[need] for need in run.needs() if need in position} for run in runs]
    waiting = dict.fromkeys(range(len(runs)))
    made: set[int] = set()
    alone: list[int] = []
    running: dict[Future, int] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(place.opened())
        while True:
            # Lazily: time passes while runs are started.
            ready = (i for i in alone or waiting if needs[i] <= made and may_start(i))
            hit = []
            room = 1 - len(running) if alone else place.room(len(running))
            for i in islice(ready, room):
                try:
                    running[submit(pool, i)] = i
                except BrokenExecutor:
                    hit.append(i)
                    break
            for i in running.values():
                waiting.pop(i, None)
            if not running and not hit:
                if not alone:
                    return
                alone = []  # None of them may start any more; others may.
                continue
            if cancelled(pool):
                return
            for future in wait(running, 1, FIRST_COMPLETED).done if not hit else ():
                i = running.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor:
                    hit.append(i)
                    continue
                except CancelledError:
                    continue
                except Exception as error:
                    if not was_killed(error):
                        raise
                    killed(i)
                    continue
                if i in alone:
                    alone.remove(i)
                if result is not None:
                    made.add(i)
                    yield i, result
            if hit:
                hit += running.values()
                running.clear()
                pool = stack.enter_context(place.opened())
                if alone:
                    alone.remove(hit[0])
                    killed(hit[0])
                else:
                    alone = sorted(hit)
                    for i in alone:
                        waiting.pop(i, None)
