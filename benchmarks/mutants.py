"""Are the tests good for anything? Errors are put into the code one at a time, and each of them has
to be noticed: in losses, statistics, splits, the store, and wherever something is chosen.

    python benchmarks/mutants.py [--first 0] [--count 10]

Prints each error that no test has noticed, and the share that was. Each is a process of its own
that shares the loaded libraries with the others: some five seconds, one after the other.
"""

import argparse
import os
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/fewlabels"


class Mutant(NamedTuple):
    """An error: in this file, this text (which occurs once) is replaced by that one."""

    file: str
    right: str
    wrong: str
    tests: str
    """File of tests, and after a blank what they are chosen by."""


MUTANTS = [
    # Nothing is chosen on test images.
    Mutant(
        "kinds/chest_xray.py",
        "for x in (valid, test))\n    threshold = best_threshold(margin, held.cpu().numpy())",
        "for x in (test, test))\n    threshold = best_threshold(margin, labels.cpu().numpy())",
        "test_chest_xray.py threshold",
    ),
    Mutant(
        "kinds/chest_xray.py",
        "moved_threshold(valid, held, test, truth)\n        if",
        "moved_threshold(test, truth, test, truth)\n        if",
        "test_chest_xray.py threshold",
    ),
    Mutant(
        "evidence/fused.py",
        "fusion.temperature(each, self.valid_labels) for each in self.valid]",
        "fusion.temperature(each, self.test_labels) for each in self.test]",
        "test_fused.py temperatures",
    ),
    Mutant(
        "evidence/fused.py",
        "fusion.mean_class_accuracy(on_valid(*each), own.valid_labels) for",
        "fusion.mean_class_accuracy(on_test(*each), own.test_labels) for",
        "test_fused.py chosen",
    ),
    Mutant(
        "evidence/fused.py",
        "stacked[warm][1] if rule == STACKING else",
        "stacked[warm][0][: len(own.valid_labels)] if rule == STACKING else",
        "test_fused.py",
    ),
    Mutant(
        "learn/fusion.py",
        "features[own], truth[own], features[held], k, c)",
        "features, truth, features[held], k, c)",
        "test_fusion.py stacking",
    ),
    Mutant(
        "learn/fusion.py",
        "best = min(PENALTIES,",
        "best = max(PENALTIES,",
        "test_fusion.py stacking",
    ),
    Mutant(
        "learn/training.py",
        'measured["valid_loss"] < state.best_loss',
        'measured["valid_loss"] > state.best_loss',
        "test_training.py best",
    ),
    Mutant(
        "learn/training.py",
        'state.best_loss = measured["valid_loss"]',
        'state.best_loss = curves["train_loss"][-1]',
        "test_training.py best",
    ),
    # Splits.
    Mutant(
        "kinds/ssl.py",
        '    new[across["other_index"].to_numpy(dtype=int)] = False\n',
        "",
        "test_ssl.py new",
    ),
    Mutant(
        "kinds/ssl.py",
        'np.isin(lesions["test"], lesions["train"])',
        'np.isin(lesions["test"], lesions["test"][:0])',
        "test_ssl.py new",
    ),
    Mutant("data/images.py", "kept[out] = False", "kept[out[1:]] = False", "test_data.py hold_out"),
    Mutant(
        "data/images.py",
        "max(1, round(fraction * len(members)))",
        "round(fraction * len(members))",
        "test_medmnist.py fractions",
    ),
    Mutant(
        "data/images.py",
        "generator=generator)[:per_class]",
        "generator=generator)[-per_class:]",
        "test_data.py draw",
    ),
    Mutant(
        "data/xrays.py",
        "groups = [patient(file) if by_patient",
        "groups = [file if by_patient",
        "test_chest_xray.py patient",
    ),
    Mutant(
        "data/duplicates.py",
        'known += pairs["first"][pairs["second"].isin(inside)].tolist()',
        "known += []",
        "test_few_photographs.py twin",
    ),
    # Losses.
    Mutant("learn/pretext/simclr.py", "roll(len(first))", "roll(1)", "test_ssl_methods.py ntxent"),
    Mutant(
        "learn/pretext/simclr.py",
        "z @ z.T / temperature",
        "z @ z.T * temperature",
        "test_ssl_methods.py ntxent",
    ),
    Mutant(
        "learn/pretext/simclr.py",
        "masked_fill(itself, -torch.inf)",
        "masked_fill(itself, 0.0)",
        "test_ssl_methods.py ntxent",
    ),
    Mutant(
        "learn/pretext/simclr.py",
        'TEMPERATURES = {"report": 0.5',
        'TEMPERATURES = {"report": 0.05',
        "test_ssl_methods.py temperatures",
    ),
    Mutant(
        "data/views.py",
        "view(torch.cat([images, images])).chunk(2)",
        "[view(images)] * 2",
        "test_ssl_methods.py views",
    ),
    Mutant(
        "learn/pretext/moco.py",
        "momentum = self.momenta[self.step // self.epoch_steps]",
        "momentum = self.momenta[self.step * 0]",
        "test_ssl_methods.py momentum",
    ),
    Mutant(
        "learn/pretext/moco.py",
        "self._remember(key.detach())",
        "self._remember(query.detach())",
        "test_ssl_methods.py infonce",
    ),
    Mutant(
        "learn/pretext/moco.py",
        "(logits / self.temperature, positive)",
        "(logits, positive)",
        "test_ssl_methods.py infonce",
    ),
    Mutant(
        "learn/pretext/vicreg.py",
        "(variance_loss(first) + variance_loss(second)) / 2",
        "variance_loss(first)",
        "test_ssl_methods.py vicreg",
    ),
    Mutant("learn/pretext/vicreg.py", "/ (len(x) - 1)", "/ len(x)", "test_ssl_methods.py vicreg"),
    Mutant(
        "learn/pretext/fixmatch.py",
        "confidence >= threshold",
        "confidence > threshold",
        "test_pretext.py fixmatch",
    ),
    Mutant(
        "learn/pretext/fixmatch.py",
        "F.cross_entropy(strong_logits, pseudo",
        "F.cross_entropy(weak_logits, pseudo",
        "test_pretext.py fixmatch or weak",
    ),
    Mutant(
        "learn/pretext/fixmatch.py",
        "(each * confident).mean()",
        "(each * confident).sum() / confident.sum().clamp(min=1)",
        "test_pretext.py fixmatch",
    ),
    # Statistics.
    Mutant(
        "evidence/verdicts.py",
        "others, holm([each.p for each in found.values()]), strict",
        "others, [each.p for each in found.values()], strict",
        "test_verdicts.py extreme",
    ),
    Mutant(
        "evidence/verdicts.py",
        "adjusted = holm([float(v.word not in refuting)",
        "adjusted = list([float(v.word not in refuting)",
        "test_verdicts.py cell",
    ),
    Mutant(
        "evidence/verdicts.py",
        "p = max(each.p for each in found.values())",
        "p = min(each.p for each in found.values())",
        "test_verdicts.py extreme",
    ),
    Mutant(
        "evidence/statistics.py",
        "np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))",
        "p[order] * np.arange(p.size, 0, -1)",
        "test_statistics.py holm",
    ),
    Mutant(
        "evidence/statistics.py",
        "among = float(means.var(ddof=1))",
        "among = float(means.var(ddof=0))",
        "test_statistics.py interval",
    ),
    Mutant(
        "evidence/statistics.py",
        "(1 / n + test_to_train) * among",
        "(1 / n) * among",
        "test_statistics.py splits",
    ),
    Mutant(
        "evidence/statistics.py",
        "max(0.0, abs(self.difference) - self.slack)",
        "abs(self.difference)",
        "test_statistics.py printed",
    ),
    Mutant(
        "evidence/statistics.py",
        "_widened(math.sqrt(found.single + found.error**2)",
        "_widened(found.error",
        "test_statistics.py printed",
    ),
    Mutant(
        "evidence/statistics.py",
        "half /= found.mean * (1 - found.mean)",
        "half /= found.mean",
        "test_statistics.py fraction",
    ),
    Mutant(
        "evidence/statistics.py",
        "means = np.array([group.mean() for group in groups])",
        "means = np.array([group[0] for group in groups])",
        "test_statistics.py luck",
    ),
    Mutant(
        "learn/evaluation.py",
        "bins = np.ceil(top * BINS).astype(int)",
        "bins = np.floor(top * BINS).astype(int)",
        "test_evaluation.py",
    ),
    Mutant(
        "learn/evaluation.py",
        "recall_score(labels, predicted, labels=present, average",
        "recall_score(labels, predicted, average",
        "test_evaluation.py absent",
    ),
    Mutant(
        "book/summary.py",
        '"n": interval.n}',
        '"n": len(group)}',
        "test_summary.py n_counts",
    ),
    # The store, and the way of a run.
    Mutant(
        "runs/records.py",
        "if files.sha256(path) not in named:",
        "if not path.exists():",
        "test_runs.py weights",
    ),
    Mutant(
        "runs/records.py",
        "map_location=fabric.device, weights_only=True)",
        "map_location=fabric.device, weights_only=False)",
        "test_runs.py code",
    ),
    Mutant(
        "cached.py",
        "weights_only=True, mmap",
        "weights_only=False, mmap",
        "test_runs.py code",
    ),
    Mutant(
        "cached.py",
        "    with files.whole(path) as stream:\n",
        "    path.parent.mkdir(parents=True, exist_ok=True)\n    with path.open('wb') as stream:\n",
        "test_runs.py half_written",
    ),
    Mutant(
        "runs/records.py",
        "self.get(experiment) or self._compute(experiment, fabric)",
        "self._compute(experiment, fabric)",
        "test_runs.py compute_once",
    ),
    Mutant(
        "files.py",
        "            partial.replace(path)\n        finally:",
        "            path.write_bytes(partial.read_bytes())\n        finally:",
        "test_runs.py disk",
    ),
    Mutant(
        "learn/training.py",
        '"weight_decay": recipe.weight_decay, "fused"',
        '"weight_decay": 0.0, "fused"',
        "test_training.py decay",
    ),
    Mutant(
        "learn/training.py",
        "progress = (step - warmup) / max(1, recipe.steps - warmup)",
        "progress = step / max(1, recipe.steps)",
        "test_training.py schedule or cosine",
    ),
    Mutant(
        "learn/resume.py",
        '        _restore(found["random"], self._device)\n',
        "",
        "test_resume.py same_bits",
    ),
    Mutant(
        "learn/resume.py",
        '{"state": found["optimiser"], "param_groups"',
        '{"state": {}, "param_groups"',
        "test_resume.py same_bits",
    ),
    Mutant(
        "learn/resume.py",
        " | dict(module.named_buffers())",
        "",
        "test_resume.py same_bits",
    ),
    Mutant(
        "runs/graph.py",
        "if needs[i] <= made and may_start(i)",
        "if may_start(i)",
        "test_sweep.py failed",
    ),
    Mutant("nets/c4.py", ".roll(r, dims=2)", "", "test_angles.py group"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="position of the first one")
    parser.add_argument("--count", type=int, default=len(MUTANTS), help="how many of them")
    given = parser.parse_args()
    import lightly  # noqa: F401  (what takes long to load, once for all of them)
    import lightning  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.pipeline  # noqa: F401
    import torchvision  # noqa: F401

    chosen = MUTANTS[given.first : given.first + given.count]
    noticed, sound = 0, {}
    for number, mutant in enumerate(chosen, start=given.first):
        start = time.time()
        # Tests that fail anyway notice nothing.
        if mutant.tests not in sound:
            sound[mutant.tests] = tested(mutant._replace(wrong=mutant.right)) == 0
        status = tested(mutant) if sound[mutant.tests] else 2
        noticed += status == 1
        said = {0: "NOT NOTICED", 1: "noticed"}.get(status, "TESTS FAIL ANYWAY")
        right = " ".join(mutant.right.split())[:60]
        print(
            f"{number:3}  {said:12} {time.time() - start:4.0f} s  {mutant.file}: {right}",
            flush=True,
        )
    print(f"{noticed} of {len(chosen)} noticed ({100 * noticed / len(chosen):.0f}%)")
    return noticed < len(chosen)


def tested(mutant: Mutant) -> int:
    """What pytest answers about the code with this error: 1 where a test fails."""
    child = os.fork()
    if not child:
        status = 3
        try:
            status = _run(mutant)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(mutant: Mutant) -> int:
    import pytest

    path = SOURCE / mutant.file
    changed = mutated(mutant).encode()
    read, state = SourceFileLoader.get_data, SourceFileLoader.path_stats
    SourceFileLoader.get_data = lambda self, p: changed if Path(p) == path else read(self, p)

    def fresh(self, p):
        if Path(p) == path:
            raise OSError  # So that no compiled file is taken.
        return state(self, p)

    SourceFileLoader.path_stats = fresh
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(SOURCE.parent), str(ROOT / "tests")]
    file, _, chosen = mutant.tests.partition(" ")
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    wanted = ["-k", chosen] if chosen else []
    return int(
        pytest.main(["-x", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / file), *wanted])
    )


def mutated(mutant: Mutant) -> str:
    """The file with the error in it. ValueError where its text does not occur once."""
    text = (SOURCE / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.right) != 1:
        raise ValueError(f"{mutant.file} has {text.count(mutant.right)} times: {mutant.right}")
    return text.replace(mutant.right, mutant.wrong)


if __name__ == "__main__":
    sys.exit(main())
