"""The benchmarks run: one step each, on the CPU. What they measure is for idle machines."""

import subprocess
import sys

from fewlabels import paths


def run(script, *options):
    command = [sys.executable, paths.ROOT / "benchmarks" / script, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_without_a_card_the_card_benchmark_says_so():
    import torch

    if not torch.cuda.is_available():
        assert run("card.py") == "no card on this machine: nothing is measured\n"


def test_the_card_benchmark_runs_a_step_of_every_kind():
    methods = ("supervised", "moco")
    options = ("--steps", "1", "--tiny", "--processes", "2", "--methods", *methods)
    lines = run("card.py", "--device", "cpu", *options).splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[1:3]] == [*methods]
    for row in rows[1:3]:
        assert all(float(told) >= 0 for told in row[1:3])  # One step: what it takes is noise.
    assert rows[2][-1].removesuffix(" |").replace(",", "").isdigit()
    assert rows[-1][0] == "| 2"


def test_the_benchmark_of_sweeps_has_a_row_for_everything():
    options = ("--runs", "2", "--steps", "2", "--records", "20", "--workers", "1")
    lines = run("sweeps.py", *options).splitlines()[2:]
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows] == [
        "runs an hour, 1 at once",
        "store, each run",
        "store and Dask, each run, two workers",
        "20 records read",
    ]


def test_every_mutant_fits_the_code_and_names_tests_that_there_are(monkeypatch):
    monkeypatch.syspath_prepend(paths.ROOT / "benchmarks")
    import mutants

    for mutant in mutants.MUTANTS:
        assert mutants.mutated(mutant) != (mutants.SOURCE / mutant.file).read_text()
        assert (paths.ROOT / "tests" / mutant.tests.split()[0]).exists()
