"""Where things are. Every other room asks here; none builds a path of its own."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
STUDIES = ROOT / "studies"
DATA = ROOT / "data"
MEASURED = DATA / "measured"
PUBLISHED = DATA / "published"
PRETRAINED = DATA / "pretrained"


def run(name: str) -> Path:
    """Folder of the products of one run; `PRUNECAST_RUNS` moves all runs elsewhere."""
    return Path(os.environ.get("PRUNECAST_RUNS", ROOT / "runs")) / name


def tables(study: str) -> Path:
    """Folder of a study's tables: those just made on this machine, else those checked in."""
    here = run(study) / "tables"
    return here if here.exists() else MEASURED / study


def outputs(name: str) -> Path:
    """Folder a page writes its tables to: the runner's staging folder, else the run's own."""
    return Path(os.environ.get("PRUNECAST_STAGE", run(name) / "tables"))


def task_folder() -> Path | None:
    """Folder of local tasks, named by `PRUNECAST_DATA`."""
    return _folder_named_by("PRUNECAST_DATA")


def checkpoint_folder() -> Path | None:
    """Folder of local checkpoints, one sub-folder per hub id, named by `PRUNECAST_MODELS`."""
    return _folder_named_by("PRUNECAST_MODELS")


def _folder_named_by(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None
