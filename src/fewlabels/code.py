"""Which code made a record: a hash of a module and of all of this package that it imports.

Comments, docstrings and layout do not count. Other hashes do not make a record invalid, as its
``recipe`` does: they tell a reader where code has changed since a number was measured. The hash is
of Python's own syntax tree, whose text differs between 3.11, 3.12 and 3.13.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

PACKAGE = "fewlabels"
_HOME = Path(__file__).parent


@cache
def digest(module: str) -> str:
    """Twelve hex digits for a module of this package, such as ``fewlabels.kinds.ssl``.

    A module from elsewhere (a kind of run that a reader has written) has none: an empty text.
    """
    if not module.startswith(f"{PACKAGE}."):
        return ""
    found = imported(module)
    text = "\n".join(f"{name} {_stripped(found[name])}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def imported(*modules: str) -> dict[str, ast.Module]:
    """These modules of this package and all of it that they import: name -> syntax tree."""
    found: dict[str, ast.Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = ast.parse(file(name).read_text(encoding="utf-8"))
            waiting += imports(found[name])
    return found


def outside(*modules: str) -> set[str]:
    """Top-level modules from elsewhere that these modules and all of `imported` name."""
    nodes = [node for tree in imported(*modules).values() for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names} - {PACKAGE, *sys.stdlib_module_names}


def file(module: str) -> Path | None:
    """The file of one of this package's modules; None where the name is not a module's."""
    place = _HOME.joinpath(*module.split(".")[1:])
    return next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)


def imports(tree: ast.Module) -> set[str]:
    """Modules of this package that a module names, also inside its functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == PACKAGE and file(name)}


def _stripped(tree: ast.Module) -> str:
    """The tree as text, without docstrings and places."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
