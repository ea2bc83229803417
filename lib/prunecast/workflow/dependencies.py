"""Which modules of the package a page or a module imports, so that an edit reruns the work it touches and no other."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def modules_of(source: Path) -> list[Path]:
    """Files of the package that a source file imports, directly or through another, in alphabetical order."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        new = _imported(waiting.pop()) - found
        found |= new
        waiting += new
    return sorted(found)


def _imported(source: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {path for name in names if (path := _file_of(name))}


def _file_of(name: str) -> Path | None:
    head, *rest = name.split(".")
    if head != PACKAGE.name:
        return None
    candidates = (
        PACKAGE.joinpath(*rest).with_suffix(".py") if rest else None,
        PACKAGE.joinpath(*rest, "__init__.py"),
    )
    return next((path for path in candidates if path and path.is_file()), None)
