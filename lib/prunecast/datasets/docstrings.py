"""The texts of a task that every installation can make: from which package does a docstring sentence come?"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from prunecast import paths
from prunecast.cache import alone, kept_folder, key_of
from prunecast.progress import track

PACKAGES = ("matplotlib", "networkx", "numpy", "pandas", "scipy", "sklearn", "torch", "transformers")
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
SENTENCES_PER_PACKAGE = 1500
FILE = "sentences.csv"
_NAMED = re.compile("|".join((*PACKAGES, "scikit", "pyplot")), re.IGNORECASE)


def sentences() -> pd.DataFrame:
    """Collect distinct first sentences of docstrings.

    Sentences have 5 to 30 words, at most 1,500 per package; a sentence that names one of the packages, or that occurs
    in two of them, is left out. The packages' files are parsed, never imported. The sentences change with the versions
    of the packages, which are part of the key under which the runs folder keeps them.

    Returns:
        One row per sentence: its text, and its label, the index of its package in `PACKAGES`.
    """
    versions = [importlib.metadata.version(DISTRIBUTIONS.get(name, name)) for name in PACKAGES]
    folder = paths.run(".cache") / "docstrings"
    with alone(folder):
        kept_folder(folder, key_of(["docstrings"], versions), lambda new: _collect().to_csv(new / FILE, index=False))
        return pd.read_csv(folder / FILE, keep_default_na=False)


def _collect() -> pd.DataFrame:
    rows = [
        (text, label)
        for label, package in enumerate(track(PACKAGES, "reading docstrings"))
        for text in _distinct(package)
    ]
    return pd.DataFrame(rows, columns=["text", "label"]).drop_duplicates("text", keep=False)


def _distinct(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is a pinned dependency"
    assert spec.origin is not None, f"{package} is a package with files"
    root = Path(spec.origin).parent
    names = [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
    scattered = sorted((name for name in names if "test" not in name), key=_scatter)
    sentences: dict[str, None] = {}
    for name in scattered:
        sentences.update(dict.fromkeys(first_sentences(root / name)))
        if len(sentences) >= SENTENCES_PER_PACKAGE:
            break
    return list(sentences)[:SENTENCES_PER_PACKAGE]


def _scatter(name: str) -> str:
    """Sort key of a fixed pseudo-random order of files, so that the first files are a fair sample of the package."""
    return hashlib.sha256(name.encode()).hexdigest()


def first_sentences(path: Path) -> Iterator[str]:
    """Yield the first sentence, where it is long enough and names no package, of every docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (doc := ast.get_docstring(node)):
            paragraph = " ".join(doc.split("\n\n")[0].split())
            sentence = re.split(r"(?<=[.!?])\s", paragraph)[0]
            if 5 <= len(sentence.split()) <= 30 and not _NAMED.search(sentence):
                yield sentence
