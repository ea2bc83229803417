"""How many evaluations does it take to find the largest safe ratio? Writes `data/measured/safe_ratios`.

    python benchmarks/safe_ratios.py RUN [EPSILON]

Each model that a study has trained (runs/RUN/models) is searched in both scopes by every method: the scan of
Algorithm 1, in tenths and in hundredths, bisection, bisection guided by a forecast, and the adaptive search. A run that
was killed resumes where it stopped.
"""

import multiprocessing
import sys
from functools import partial
from typing import Any

import pandas as pd
import torch
from prunecast import paths, tables
from prunecast.cache import file_hash, kept_row, key_of
from prunecast.models import checkpoints
from prunecast.progress import track
from prunecast.selection import deployment
from prunecast.workflow import provenance

STAGES = ("evaluation", "adaptive")
FORECASTS = paths.MEASURED / "campaign"


def scans_of(run: str, epsilon: float, model: str) -> dict[str, Any]:
    """Search one model by every method, or read the cached result.

    Args:
        run: Name of the study that trained the model.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        model: Name of the model.

    Returns:
        The columns of its rows of the table `scans`.
    """
    torch.set_num_threads(1)
    forecasts = tables.read("predictions", FORECASTS).query(deployment.UNSEEN)
    subject = checkpoints.trained_classifier(model, run, 0)
    files = (subject.folder / "model.safetensors", FORECASTS / tables.file_name("predictions"))
    key = key_of(STAGES, *map(file_hash, files), subject.task.fingerprint, epsilon)

    def search() -> dict[str, Any]:
        scans = deployment.scan_safe_ratios(subject, forecasts, epsilon)
        return {str(name): column.to_list() for name, column in scans.items()}

    columns: dict[str, Any] = kept_row(subject.folder / "safe_ratios.json", key, search)
    return columns


def main(run: str, epsilon: str = "0.01") -> None:
    """Search all models of a study, one process for each core, and write the table with its provenance.

    Args:
        run: Name of the study.
        epsilon: Loss of accuracy that is accepted, as a fraction.
    """
    models = tables.read("models", paths.outputs(run))["model"].to_list()
    with multiprocessing.get_context("spawn").Pool() as pool:
        rows = pool.imap(partial(scans_of, run, float(epsilon)), models)
        scans = pd.concat([pd.DataFrame(part) for part in track(rows, "models", total=len(models))])
    target = paths.MEASURED / "safe_ratios"
    tables.write("scans", scans, target)
    records = {model: provenance.record(paths.run(run) / "models" / model) for model in models}
    provenance.write(target, {"command": f"python benchmarks/safe_ratios.py {run} {epsilon}", "models": records})
    evaluations = scans.pivot(index=["model", "scope"], columns="method", values="evaluations")
    print(evaluations.describe().to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
