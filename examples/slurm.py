"""A chapter's runs as jobs of a SLURM cluster, each with one core, or one card.

    python examples/slurm.py --jobs 40 rotnet-mnist --profile full -p store cache
    python examples/slurm.py --card --jobs 4 ssl-medmnist --profile full -p minutes -1

Start it where it may stay, on a login node in tmux, or in a job of its own. What follows the
options goes to `fewlabels run`. FEWLABELS_DATA and FEWLABELS_CACHE have to name folders that all
nodes see: weights are kept there, and a run whose job ends goes on in another one. PBS, SGE and
others: put PBSCluster or SGECluster in the place of SLURMCluster.
"""

import argparse
import os
import re
import sys

from dask_jobqueue import SLURMCluster

SHARED = ("FEWLABELS_DATA", "FEWLABELS_CACHE")


def cluster(given: argparse.Namespace) -> SLURMCluster:
    """The cluster; its jobs are started when runs wait for them."""
    own = {name: os.environ[name] for name in SHARED}
    hours, minutes, _ = map(int, given.walltime.split(":"))
    # A worker hands its runs over before its job is killed.
    life = ["--lifetime", f"{60 * hours + minutes - 5}m", "--lifetime-stagger", "3m"]
    card = ["--resources", "GPU=1"] if given.card else []
    return SLURMCluster(
        cores=1,
        processes=1,
        memory=given.memory,
        walltime=given.walltime,
        account=given.account,
        queue=given.partition,
        job_extra_directives=["--gres=gpu:1"] if given.card else [],
        job_script_prologue=[f"export {name}={value}" for name, value in own.items()],
        worker_extra_args=[*life, *card],
    )


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--jobs", type=int, default=10, help="at most so many at once")
    found.add_argument("--walltime", default="02:00:00", help="of a job, HH:MM:SS")
    found.add_argument("--memory", default="8GB", help="of a job")
    found.add_argument("--account")
    found.add_argument("--partition")
    found.add_argument("--card", action="store_true", help="one graphics card for each job")
    found.add_argument("--print", action="store_true", help="print the job script and end")
    found.add_argument("run", nargs=argparse.REMAINDER, help="what `fewlabels run` gets")
    return found


if __name__ == "__main__":
    commands = parser()
    given = commands.parse_args()
    if missing := [name for name in SHARED if name not in os.environ]:
        commands.error(f"set {' and '.join(missing)} to folders that all machines see")
    if not re.fullmatch(r"\d+:\d\d:\d\d", given.walltime):
        commands.error(f"--walltime is {given.walltime!r}; expected HH:MM:SS")
    with cluster(given) as jobs:
        if given.print:
            print(jobs.job_script())
            sys.exit()
        from fewlabels.book import cli

        jobs.adapt(minimum_jobs=1, maximum_jobs=given.jobs)
        sys.exit(cli.main(["run", *given.run, "--scheduler", jobs.scheduler_address]))
