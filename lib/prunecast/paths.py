"""Paths of the repository, of runs and of folders named by environment variables; no other module builds its own."""

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
    """Folder of the products of one run.

    Args:
        name: Name of the run.

    Returns:
        A folder, which need not exist, in `runs` of the repository or in the folder that `PRUNECAST_RUNS` names.
    """
    return Path(os.environ.get("PRUNECAST_RUNS", ROOT / "runs")) / name


def tables(study: str) -> Path:
    """Folder of a study's tables.

    Args:
        study: Name of the study.

    Returns:
        The folder of a run of that name on this machine, or else that of `data/measured`, which is checked in.
    """
    here = run(study) / "tables"
    return here if here.exists() else MEASURED / study


def outputs(name: str) -> Path:
    """Folder to which a page writes its tables.

    Args:
        name: Name of the run.

    Returns:
        The staging folder that `PRUNECAST_STAGE` names, or else the run's folder of tables.
    """
    return Path(os.environ.get("PRUNECAST_STAGE", run(name) / "tables"))


def task_folder() -> Path | None:
    """Folder of local tasks, named by `PRUNECAST_DATA`; None where the variable is not set."""
    return _folder_named_by("PRUNECAST_DATA")


def checkpoint_folder() -> Path | None:
    """Folder of local checkpoints, one sub-folder per hub id, named by `PRUNECAST_MODELS`; None where it is not set."""
    return _folder_named_by("PRUNECAST_MODELS")


def _folder_named_by(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None
