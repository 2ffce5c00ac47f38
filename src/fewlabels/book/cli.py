"""The `fewlabels` command. Heavy libraries are imported by the commands that need them."""

import argparse
import math
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from fewlabels import files, paths
from fewlabels.book import notebooks, render
from fewlabels.chapters import profiles
from fewlabels.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 for bad input, 1 for a failed chapter."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # A name may hold bytes that are no text.
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    if wrong := _form(arguments):
        _say(wrong)
        return 2
    given = _parser().parse_args(arguments)
    with suppress(ValueError):  # Only the main thread hears of signals.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not paths.IN_CHECKOUT and given.command in OF_THE_BOOK:
            raise UserError(
                "this command works on the book's own records and pages, which a wheel does not "
                "carry: clone the repository and `pip install -e .` there."
            )
        status = given.command(given) or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        _say(error)
        return 2
    except BrokenPipeError:  # Whoever reads has seen enough, as `head` has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "fewlabels":
            raise
        _say(f"{error.name} is not installed here: run `make test` first, which sets up everything")
        return 2
    except OSError as error:
        _say(files.in_words(error))
        return 2
    except notebooks.ChapterFailed as error:
        _say(error)
        return 1
    except KeyboardInterrupt as stop:
        remains = f"; {stop}" if str(stop) else ""
        print(f"\nfewlabels: interrupted; finished runs are kept{remains}", file=sys.stderr)
        return 130


def _say(error: object) -> None:
    print(f"fewlabels: {_printable(str(error))}", file=sys.stderr)


def _printable(text: str) -> str:
    """What would steer the terminal, and bytes that are no text, escaped: files have any name."""
    return "".join(
        each if each.isprintable() or each == "\n" else f"\\x{ord(each) & 255:02x}" for each in text
    )


def _form(arguments: Sequence[str]) -> str:
    """What is wrong with the form of a ``-p``; empty where nothing is."""
    for flag, word in pairwise(arguments):
        name, equals, value = word.partition("=")
        if flag == "-p" and equals:
            return f"-p {word}: write -p {name} {value or 'VALUE'}, with a space"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fewlabels", description="Learning from few labels.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    named = "full, quick (default), minute or smoke"

    def add(name: str, command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    def overridden(sub: argparse.ArgumentParser) -> None:
        said = {"metavar": ("NAME", "VALUE"), "help": "a parameter, as `fewlabels list` has them"}
        sub.add_argument("-p", nargs=2, action="append", default=[], dest="overrides", **said)

    add("list", _list, "chapters, their parameters, defaults and allowed values")
    run = add("run", _run, "run a chapter; ends with the path of its page")
    run.add_argument("chapter", metavar="CHAPTER")
    run.add_argument("--profile", default="quick", help=named)
    overridden(run)
    run.add_argument("--output", type=Path, metavar="FILE", help="the executed notebook (.ipynb)")
    run.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask scheduler whose workers make the runs"
    )
    keep = add("keep", _keep, "collect the book's records, one file a run, in one file a chapter")
    keep.add_argument("chapter", metavar="CHAPTER", nargs="?")
    freeze = add("freeze", _freeze, "execute a chapter (or all) for the book with Quarto")
    freeze.add_argument("chapter", metavar="CHAPTER", nargs="?")
    status = add("status", _status, "runs done and needed, and whether the frozen output is fresh")
    status.add_argument("--missing", action="store_true", help="name the missing runs, in order")
    classify = add("classify", _classify, "name what photographs show (chapter few-data-caltech)")
    classify.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    classify.add_argument("--profile", default="quick", help=named)
    overridden(classify)
    advise = add("advise", _advise, "one page on your own images: what few labels give, and how")
    advise.add_argument("images", metavar="PATH", help="an .npz file, or a folder per class")
    advise.add_argument("--minutes", type=float, default=10, help="start no run later (10)")
    advise.add_argument(
        "--symmetry",
        default="mirror",
        help="what leaves an image's meaning as it is: none (letters), mirror, any (cells)",
    )
    advise.add_argument("--page", type=Path, metavar="FILE", help="the page (advice-NAME.html)")
    score = add("score", _score, "your predictions beside the methods of chapter 5, paired by draw")
    score.add_argument("predictions", nargs="?", type=Path, metavar="FILE", help="an .npz file")
    score.add_argument("--task", metavar="TASK", help="as bloodmnist-25%%; without one, all tasks")
    add("summary", _summary, "rewrite results/summary.csv, the made parts of pages, and the card")
    add("claims", _claims, "rewrite results/claims.csv")
    add("verify", _verify, "compare records, tables and frozen pages with what they follow from")
    replay = add("replay", _replay, "make random runs of the book again, beside their records")
    replay.add_argument("chapters", nargs="*", metavar="CHAPTER", help="all without any")
    replay.add_argument("--sample", type=int, default=20, metavar="N", help="so many (20)")
    replay.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    replay.add_argument("--seconds", type=float, default=60, help="of a recorded run, at most (60)")
    replay.add_argument("--keep", action="store_true", help="add to results/replay.csv")
    pack = add("pack", _pack, "write a folder that makes missing runs on another machine")
    pack.add_argument("chapters", nargs="+", metavar="CHAPTER")
    pack.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    overridden(pack)
    pack.add_argument("--have", type=Path, metavar="FILE", help="what `pip list` says there")
    pack.add_argument("--python", default="3.12", metavar="VERSION", help="there (3.12)")
    pack.add_argument(
        "--platform", action="append", metavar="TAG", help="of wheels (manylinux, x86-64)"
    )
    pack.add_argument("--limit", type=_bytes, default=math.inf, metavar="60MB")
    merge = add("merge", _merge, "take the records that came back into results/")
    merge.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    add("preview", _preview, "write the book as plain pages, without Quarto")
    add("book", _book, "render the book to HTML and PDF")
    return parser


def _list(given: argparse.Namespace) -> None:
    from fewlabels import chapters
    from fewlabels.book.planned import planned

    for name in chapters.names():
        print(f"{name}  ({chapters.notebook(name).relative_to(paths.ROOT)})")
        chapter = planned(name)
        wide = max(map(len, chapter.parameters))
        for key, value in chapter.parameters.items():
            allowed, meaning = chapter.told[key]
            print(f"  {key:{wide}}  {meaning}".rstrip())
            print(f"  {'':{wide}}  {value}  ({allowed})")


def _run(given: argparse.Namespace) -> None:
    from fewlabels.book import rerun

    unresolved, page = rerun.run(
        given.chapter, given.profile, dict(given.overrides), given.output, given.scheduler
    )
    for reference in unresolved:
        print(f"Unresolved reference {reference}")
    print(page.resolve())


def _keep(given: argparse.Namespace) -> None:
    from fewlabels import chapters
    from fewlabels.book import rerun

    for name in [given.chapter] if given.chapter else chapters.names():
        print(f"{name}: {rerun.collect(name, profiles.parameters(name, 'full'))} records collected")


def _freeze(given: argparse.Namespace) -> None:
    from fewlabels import chapters
    from fewlabels.book import freeze, rerun

    quarto = render.find_quarto()
    if quarto is None:
        raise UserError(f"Freezing needs Quarto on PATH, or `pip install {render.QUARTO}`.")
    for name in [given.chapter] if given.chapter else chapters.names():
        state = freeze.status(name)
        if missing := state.needed - state.done:
            then = "shown as not run" if state.partial else "computed first"
            print(f"{name}: {missing} of {state.needed} runs are missing and are {then}.")
        with rerun.collected(name, profiles.parameters(name, "full")):
            print(f"{name}: frozen in {freeze.freeze(name, quarto).relative_to(paths.ROOT)}")


def _status(given: argparse.Namespace) -> int:
    from fewlabels import chapters
    from fewlabels.book import freeze
    from fewlabels.book.planned import planned

    if given.missing:
        return _missing()
    clean = True
    for name in chapters.names():
        state = freeze.status(name)
        clean = clean and not state.stale and (state.partial or state.done == state.needed)
        print(f"{name}: {state.done} of {state.needed} runs, {freeze.in_words(state.stale)}")
        if older := planned(name).by_other_code():
            print(f"  made by code that has changed since: {older} records")
        if more := planned(name).beyond:
            done = planned(name).done_beyond()
            print(f"  a larger budget would add: {done} of {len(more)} runs are made")
    if old := freeze.stale_claims():
        print(
            f"results/claims.csv: older than the records of {', '.join(old)} (`fewlabels claims`)"
        )
    return 0 if clean and not old else 1


def _missing() -> int:
    from fewlabels import chapters
    from fewlabels.book import packing

    total = 0
    for name in chapters.names():
        store, missing, _ = packing.lacking(name, profiles.settings(name))
        for run in missing:
            words = map(str, [*run.cell().values(), getattr(run, "draw", getattr(run, "seed", ""))])
            print(name, store.path(run).stem, *filter(None, words))
        total += len(missing)
    return 1 if total else 0


def _classify(given: argparse.Namespace) -> int:
    from fewlabels.book import recognition as recognise

    values = profiles.parameters("few-data-caltech", given.profile, dict(given.overrides))
    files.folder(paths.cache())
    recogniser = recognise.prepared(values)
    refused = 0
    for path in given.images:
        try:
            print(_printable("\n".join(recognise.in_words(recogniser(path)))))
        except UserError as error:
            refused += 1
            _say(error)
    return 2 if refused else 0


def _advise(given: argparse.Namespace) -> None:
    from tqdm import tqdm

    from fewlabels import data
    from fewlabels.book.advise import advise

    images = data.load(given.images)
    for note in getattr(images, "notes", ()):
        print(f"{note}.")
    page = given.page or Path(f"advice-{images.name}.html")
    with tqdm(unit="run", disable=not sys.stderr.isatty()) as bar:

        def progress(done, total, record):
            bar.total = total
            bar.update()
            bar.set_postfix_str(" ".join(map(str, (*record.cell.values(),)[1:3])))
            if bar.disable:
                print(
                    f"{done}/{total}  {record.cell['method']}  {record.seconds:.0f} s", flush=True
                )

        choices = {"minutes": given.minutes, "symmetry": given.symmetry}
        found = advise(given.images, page=page, progress=progress, **choices)
    print(found)
    if found.done < found.planned:
        print(f"{found.done} of {found.planned} runs: the same command goes on.")
    print(page.resolve())


def _score(given: argparse.Namespace) -> None:
    from fewlabels.evidence import standings

    if given.task is None:
        if given.predictions:
            raise UserError(
                "name the task: --task, one of " + ", ".join(standings.files_of_tasks())
            )
        for name, file in standings.files_of_tasks().items():
            print(f"{name:18} {file.relative_to(paths.ROOT)}")
        return
    task = standings.task(given.task)
    if given.predictions:
        found = standings.score(task, given.predictions)
    else:
        found = standings.standings(task)
    print(found.to_string(index=False) if len(found) else "no method has met this task yet")


def _summary(given: argparse.Namespace) -> None:
    from fewlabels.book import card, inserted, summary

    print(summary.write())
    print(card.write())
    for page in inserted.write():
        print(page)


def _claims(given: argparse.Namespace) -> None:
    from fewlabels.book import ledger

    print(ledger.write())


def _verify(given: argparse.Namespace) -> int:
    from fewlabels.book import integrity

    report = integrity.verify()
    for line in (*report.wrong, *integrity.in_words(report)):
        print(line)
    return 1 if report.wrong else 0


def _replay(given: argparse.Namespace) -> None:
    from fewlabels.book import replay

    worst: dict[str, float] = {}
    asked = (given.sample, given.seed, given.seconds, given.chapters)
    for name, record, made in replay.replayed(*asked):
        kind = f"{name} {record.config['kind']}"
        if isinstance(made, str):
            print(f"{kind}-{record.id}: not made: {made}", flush=True)
            continue
        metric, gap = replay.furthest(record, made)
        worst[kind] = max(worst.get(kind, 0.0), gap)
        if given.keep:
            replay.keep([replay.row(name, record, made)])
        said = f"{metric} differs by {gap:.2g} of itself" if gap else "equal"
        print(
            f"{kind}-{record.id}: {said}, {made.seconds:.0f} s ({record.seconds:.0f} s)", flush=True
        )
    for kind, gap in sorted(worst.items()):
        print(f"{kind}: at most {gap:.2g}")


def _bytes(text: str) -> float:
    with suppress(ValueError):
        found = float(text.upper().removesuffix("B").removesuffix("M")) * 1e6
        if 0 < found < math.inf:
            return found
    raise argparse.ArgumentTypeError("give megabytes, as 60MB")


def _pack(given: argparse.Namespace) -> None:
    from fewlabels.book import packing

    platforms = given.platform or packing.PLATFORMS
    machine = (given.have, given.python, platforms, given.limit)
    for line in packing.pack(given.chapters, given.to, dict(given.overrides), *machine):
        print(line)


def _merge(given: argparse.Namespace) -> int:
    from fewlabels.book import packing

    lines, refused = packing.merge(given.archives)
    print("\n".join(lines))
    return 1 if refused else 0


def _preview(given: argparse.Namespace) -> None:
    print(render.plain())


def _book(given: argparse.Namespace) -> None:
    for page in render.build():
        print(page)


OF_THE_BOOK = (
    *(_keep, _freeze, _status, _summary, _claims, _verify, _replay, _score, _pack, _merge),
    *(_preview, _book),
)
"""Commands that need a checkout."""
