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

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pandas", "scikit-learn", "prunecast")


def keep(study: Study, file: Path) -> Path:
    """Validate the tables of a finished study, copy them to `data/measured/STUDY` and describe them there."""
    source, target = paths.run(study.study) / "tables", paths.MEASURED / study.study
    made = [name for name in tables.contracts() if (source / tables.file_name(name)).exists()]
    if not made:
        raise UserError(f"study {study.study} has no tables in {source}; run it first")
    for name in made:
        tables.write(name, tables.read(name, source), target)
    text = json.dumps(_provenance(study, file, tables.read("models", source)), indent=1)
    tables.write_atomically(target / "provenance.json", lambda part: part.write_text(text + "\n", encoding="utf-8"))
    return target


def _provenance(study: Study, file: Path, models: Any) -> dict[str, Any]:
    records = {name: collect.record(study.study, name) for name in models["model"]}
    return {
        "study": file.name,
        "study_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "commands": [f"prunecast run {page} --study studies/{file.name}" for page in study.pages],
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES},
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "seeds": sorted({int(seed) for seed in models["seed"]}),
        "wall_time_s": round(sum(record["train_s"] + record["sweep_s"] for record in records.values()), 1),
        "models": records,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()
