"""Provenance: the tables of an expensive study are copied to `data/measured` with what they were made from."""

import datetime
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import torch

from prunecast import paths, tables
from prunecast.cache import file_hash
from prunecast.errors import UserError
from prunecast.hardware import processor
from prunecast.models.checkpoints import TRAINED
from prunecast.sweeps.collect import JOURNAL
from prunecast.sweeps.journal import whole_lines
from prunecast.workflow.studies import Study

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "torch-pruning",
    "moocore",
    "optuna",
    "numpy",
    "pandas",
    "scikit-learn",
    "prunecast",
)

SEEDS = ("seed", "dense_seed", "retrain_seed")  # columns


def keep(study: Study, file: Path) -> Path:
    """Validate the tables of a finished study, copy them to `data/measured/STUDY` and describe them there."""
    source, target = paths.run(study.study) / "tables", paths.MEASURED / study.study
    made = [name for name in tables.contracts() if (source / tables.file_name(name)).exists()]
    if not made:
        raise UserError(f"study {study.study} has no tables in {source}; run it first")
    kept = {name: tables.read(name, source) for name in made}
    for name, table in kept.items():
        tables.write(name, table, target)
    run = paths.run(study.study)
    folders = sorted(path.parent for path in run.rglob("trained.json"))
    records = {str(folder.relative_to(run)).removeprefix("models/"): record(folder) for folder in folders}
    seeds = {int(seed) for table in kept.values() for column in SEEDS if column in table for seed in table[column]}
    described = {
        "study": file.name,
        "study_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "commands": [f"prunecast run {page} --study studies/{file.name}" for page in study.pages],
        "seeds": sorted(seeds),
        "wall_time_s": round(sum(record["train_s"] + record["sweep_s"] for record in records.values()), 1),
        "models": records,
        "pages_s": _page_seconds(run / "notebooks"),
    }
    write(target, described)
    return target


def write(folder: Path, described: dict[str, Any]) -> None:
    """Write `provenance.json`: what is given, the sha256 of every table in `folder`, date, versions and processor."""
    whole = described | {
        "tables": table_hashes(folder),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES},
        "processor": processor(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "threads": torch.get_num_threads(),
    }
    text = json.dumps(whole, indent=1) + "\n"
    tables.write_atomically(folder / "provenance.json", lambda part: part.write_text(text, encoding="utf-8"))


def table_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every table in a folder, by file name."""
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.csv*"))}


def record(folder: Path) -> dict[str, Any]:
    """Where a model comes from: sha256 of its inputs and weights, seconds of training and of its sweep.

    The weights of a pretrained model, which is not saved again, are among its inputs.
    """
    kept = json.loads((folder / TRAINED).read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    return {
        "inputs": kept["inputs"],
        **({"weights": file_hash(weights)} if weights.exists() else {}),
        "train_s": kept["seconds"],
        "sweep_s": round(sum(line["seconds"] for line in whole_lines(folder / JOURNAL)[1:]), 1),
    }


def _page_seconds(folder: Path) -> dict[str, float]:
    """Seconds that the execution of each page took, by page."""
    notebooks = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.ipynb"))}
    return {name: round(notebook["metadata"]["papermill"]["duration"], 1) for name, notebook in notebooks.items()}
