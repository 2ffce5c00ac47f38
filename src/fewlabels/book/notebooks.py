"""Running a chapter's notebook through papermill, and where its output is frozen."""

import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewlabels import files, paths
from fewlabels.chapters import profiles
from fewlabels.errors import DiskError, UserError
from fewlabels.runs import under_way

KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
"""Starts a notebook's process with the Python that runs this."""
LONGEST = 72
"""Bytes of a folder's path that leave room for a socket's: macOS takes 104 in all."""


class ChapterFailed(RuntimeError):
    """A cell raised an error; the message is what the person at the keyboard should read."""


def frozen(notebook: Path) -> Path:
    """Folder that Quarto freezes a chapter's output in."""
    return paths.FREEZE / notebook.relative_to(paths.ROOT).with_suffix("")


def execute(notebook: Path, output: Path, values: dict[str, Any]) -> None:
    """Run a notebook with these parameters and keep the executed copy at ``output``.

    Progress bars on a terminal; one line per finished run and cell elsewhere. ChapterFailed where a
    cell raises; a UserError's message is passed on as it is. DiskError where the system refuses a
    file; UserError where the path of the folder for temporary files is too long. The first Ctrl-C
    or SIGTERM lets the cell end by itself, as `fewlabels.runs.sweep` says; then, and at once with
    the second, KeyboardInterrupt.
    """
    import papermill
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

    kernels: list[AsyncKernelManager] = []
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary)) > LONGEST:
        raise UserError(f"{temporary} is too long a path for sockets: set TMPDIR to a shorter one")

    class Known(AsyncKernelManager):
        # Another kernel may be installed under the same name, with another Python.
        kernel_spec = KernelSpec(argv=KERNEL, display_name="Python 3", language="python")

        def __init__(self, **more):
            # Files: two kernels that start at once may be given the same free port.
            super().__init__(transport="ipc", ip=f"{sockets}/kernel", **more)
            kernels.append(self)

    class CellByCell(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            # An interrupted kernel says so, as an error of its own.
            options["extra_arguments"] = ["--log-level=CRITICAL"]
            options["kernel_manager_class"] = Known
            if nb_man.pbar is not None:
                options["stdout_file"] = _Caption(nb_man.pbar)
            else:
                options["stdout_file"] = _Lines()
                nb_man.cell_complete = _reporting(nb_man.cell_complete, len(nb_man.nb.cells))
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("cell-by-cell", CellByCell)
    # An interrupted kernel answers when nobody listens any more, and asyncio prints all it says;
    # papermill says that it has died, as the error that it raises does.
    for told in ("asyncio", "papermill"):
        logging.getLogger(told).setLevel(logging.CRITICAL)
    files.folder(output.parent)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fewlabels-") as sockets,
            under_way.signals(_to(kernels)),
            _bars(),
        ):
            papermill.execute_notebook(
                _literal(notebook),
                _literal(output),
                parameters=values,
                engine_name="cell-by-cell",
                kernel_name="python3",
                progress_bar={"desc": notebook.stem} if sys.stderr.isatty() else False,
            )
    except DeadKernelError:
        raise ChapterFailed(
            "the notebook's process was killed by the system, often because memory is short. "
            "Finished runs are kept: start again with fewer workers (-p workers 1)."
        ) from None
    except OSError as error:
        output.unlink(missing_ok=True)  # papermill's, cut short.
        raise DiskError(files.in_words(error, error.filename or output)) from error
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt(error.evalue) from None
        if error.ename == "UserError":
            raise ChapterFailed(error.evalue) from None
        if error.ename == "DiskError":
            raise DiskError(error.evalue) from None
        trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        raise ChapterFailed(f"{trace}\nThe notebook up to this cell: {output}") from None


def _literal(path: Path) -> str:
    """A path that papermill takes as it is: it fills parameters in where it sees braces."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def evaluate(notebook: Path, values: dict[str, Any], *wanted: str) -> dict[str, Any]:
    """The names that some of a notebook's cells define, run in this process: those tagged so.

    values: parameters, in place of those of the cell tagged ``parameters``.
    """
    names: dict[str, Any] = {}
    for cell in profiles.cells(notebook):
        if cell["cell_type"] == "code" and {*profiles.tags(cell)} & {"parameters", *wanted}:
            exec(compile(cell["source"], notebook.name, "exec"), names)
            names |= values if "parameters" in profiles.tags(cell) else {}
    return names


def _to(kernels: list) -> Callable[[], None]:
    """Passes a signal on to the kernel, which knows how to stop."""

    def stop() -> None:
        pids = [pid for kernel in kernels if (pid := getattr(kernel.provisioner, "pid", None))]
        if not pids:
            raise KeyboardInterrupt
        os.kill(pids[-1], signal.SIGINT)
        print("\nStopping; what trains keeps its state. Once more: at once.", file=sys.stderr)

    return stop


@contextmanager
def _bars() -> Iterator[None]:
    """On a terminal, bars for the sweep that the kernel makes."""
    if not sys.stderr.isatty():
        yield
        return
    os.environ[under_way.NAME] = under_way.own_name()
    try:
        with under_way.bars(under_way.place(under_way.own_name())):
            yield
    finally:
        del os.environ[under_way.NAME]


class _Lines:
    """A file for the kernel's standard output: what a sweep says of its runs stands in the log."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if re.match(r"\d+/\d+  |\d+ runs? remains?", line):
                print(line, flush=True)

    def flush(self) -> None:
        pass


class _Caption:
    """A file for the kernel's standard output: its last line stands behind the progress bar."""

    def __init__(self, bar):
        self.bar = bar

    def write(self, text: str) -> None:
        if text.strip():
            self.bar.set_postfix_str(text.strip().splitlines()[-1][:60])

    def flush(self) -> None:
        pass


def _reporting(cell_complete, total: int):
    start = time.monotonic()

    def complete_and_report(cell, cell_index=None, **more):
        cell_complete(cell, cell_index, **more)
        if cell["cell_type"] == "code" and not cell.metadata.papermill.exception:
            seconds = time.monotonic() - start
            print(f"cell {cell_index + 1} of {total} done, {seconds:.0f} s", flush=True)

    return complete_and_report
