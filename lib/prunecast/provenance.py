"""Keeping the tables of an expensive study: copied to `data/measured` with what they were made from and with."""

import datetime
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import torch

from prunecast import collect, paths, tables
from prunecast.errors import UserError
from prunecast.studies import Study

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
    records = {str(folder.relative_to(run)).removeprefix("models/"): collect.record(folder) for folder in folders}
    seeds = {int(seed) for table in kept.values() if "seed" in table for seed in table["seed"]}
    described = {
        "study": file.name,
        "study_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "commands": [f"prunecast run {page} --study studies/{file.name}" for page in study.pages],
        "seeds": sorted(seeds),
        "wall_time_s": round(sum(record["train_s"] + record["sweep_s"] for record in records.values()), 1),
        "models": records,
    }
    write(target, described)
    return target


def write(folder: Path, described: dict[str, Any]) -> None:
    """Write `provenance.json`: what is given, and the date, the versions and the processor."""
    whole = described | {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES},
        "processor": processor(),
        "threads": torch.get_num_threads(),
    }
    text = json.dumps(whole, indent=1) + "\n"
    tables.write_atomically(folder / "provenance.json", lambda part: part.write_text(text, encoding="utf-8"))


def processor() -> str:
    """Name of the processor, as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()
