"""A room of the package imports only rooms above it, also inside functions."""

import ast

import pytest

from fewlabels import code, paths

BASE = ("errors", "paths", "files", "cached", "code", "config")
"""Modules at the top of the package, which every room may use."""
ROOMS = (
    "reference",
    "data",
    "nets",
    "learn",
    "runs",
    "kinds",
    "chapters",
    "evidence",
    "book",
    "api",
)
PACKAGE = paths.ROOT / "src/fewlabels"


def room(module: str) -> str:
    """``fewlabels.nets.c4`` -> ``nets``."""
    return module.split(".")[1]


def modules() -> list[str]:
    found = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = [".".join(("fewlabels", *path.parts)).removesuffix(".__init__") for path in found]
    return sorted(name for name in names if name not in ("fewlabels", "fewlabels.__main__"))


def lower(module: str, imported: set[str]) -> set[str]:
    """What a module imports from rooms below its own."""
    level = {name: place for place, name in enumerate((*BASE, *ROOMS))}
    own = len(BASE) - 1 if room(module) in BASE else level[room(module)]
    return {name for name in imported - {"fewlabels"} if level[room(name)] > own}


def test_every_module_is_in_a_room():
    there = {path.stem for path in PACKAGE.iterdir() if path.name[0].isalpha()} - {"fewlabels"}
    assert there == {*BASE, *ROOMS}


@pytest.mark.parametrize("module", modules())
def test_a_room_imports_only_rooms_above_it(module):
    tree = ast.parse(code.file(module).read_text(encoding="utf-8"))
    assert lower(module, code.imports(tree)) == set()


def test_an_import_from_below_is_seen_inside_a_function_too():
    source = "def f():\n    from fewlabels.book import freeze\n    import fewlabels.kinds.ssl\n"
    found = lower("fewlabels.learn.training", code.imports(ast.parse(source)))
    assert found == {"fewlabels.book", "fewlabels.book.freeze", "fewlabels.kinds.ssl"}
    assert lower("fewlabels.errors", {"fewlabels.data"}) == {"fewlabels.data"}
