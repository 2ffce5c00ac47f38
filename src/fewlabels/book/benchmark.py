"""The tables of the page that strangers enter by: the tasks, and the present standings."""

import pandas as pd

from fewlabels.evidence import standings as found
from fewlabels.evidence import tables
from fewlabels.evidence.frame import of_the_book

SHOWN = 10
"""Methods of a task on the page; `fewlabels score --task` prints all."""


def tasks() -> str:
    """Every task with its file: labels, draws, test images, and how the hash of draw 0 begins."""
    rows = []
    for name, file in found.files_of_tasks().items():
        task = found.task(name)
        rows.append(
            {
                "Task": f"[`{name}`](../results/draws/{file.name})",
                "Labels": len(task.draws[0]),
                "Draws": len(task.draws),
                "Test images": len(found.images(task.dataset).test_labels),
                "Hash of draw 0": f"`{task.hashes[0][:12]}`",
            }
        )
    caption = "Tasks: a link leads to the file of positions and hashes."
    return str(tables.show(pd.DataFrame(rows), "tbl-benchmark-tasks", caption))


def standings() -> str:
    """A table per task that some method has met, from the book's records."""
    runs = of_the_book(found.CHAPTER)
    made = []
    for name in found.files_of_tasks():
        table = found.standings(found.task(name), runs)
        if table.empty:
            continue
        more = f"the best {SHOWN} of {len(table)} methods" if len(table) > SHOWN else "the methods"
        label = f"tbl-standings-{name.rstrip('%')}"
        caption = (
            f"`{name}`, on this book's rebuilt copy of the data: {more} of chapter 5; n is the "
            "number of independent units."
        )
        made.append(str(tables.show(table.head(SHOWN), label, caption)))
    return "\n".join(made)
