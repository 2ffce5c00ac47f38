import ast
import shutil

from conftest import toy_run

from fewlabels import code
from fewlabels.book.planned import planned


def test_a_hash_follows_the_code_and_not_its_comments():
    def text(source: str) -> str:
        return code._stripped(ast.parse(source))

    one = text('def f(x):\n    """Says what."""\n    return x + 1\n')
    assert text("def f(x):\n    # Why.\n    return (x + 1)\n") == one
    assert text("def f(x):\n    return x + 2\n") != one


def test_what_is_imported_counts_also_inside_functions():
    found = code.imports(
        ast.parse("from fewlabels import data, errors\ndef f():\n    import fewlabels.paths\n")
    )
    assert {"fewlabels.data", "fewlabels.errors", "fewlabels.paths"} <= found
    assert code.digest("fewlabels.errors") != code.digest("fewlabels.paths")
    assert code.digest("fewlabels.kinds.ssl") == code.digest("fewlabels.kinds.ssl")


def test_a_kind_of_run_from_elsewhere_has_no_hash():
    assert code.digest("toy_runs") == ""


def test_status_counts_the_records_that_other_code_made(toy, record, monkeypatch):
    monkeypatch.setattr(code, "digest", lambda module: "before")
    record(toy_run(0), toy_run(1))
    assert planned("toy").by_other_code() == 0
    shutil.rmtree(toy.parent / "cache")
    monkeypatch.setattr(code, "digest", lambda module: "after")
    assert planned("toy").by_other_code() == 2
