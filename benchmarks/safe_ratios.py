"""What does it take to find the largest safe ratio? Writes `data/measured/safe_ratios`.

    python benchmarks/safe_ratios.py RUN [EPSILON]

Each model that a study has trained (runs/RUN/models) is searched in both scopes: by the scan of Algorithm 1, in tenths
and in hundredths, by halves, guided by a forecast, and adaptively. A killed run goes on where it stopped.
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


def searched(run: str, epsilon: float, model: str) -> dict[str, Any]:
    """The rows of one model, kept beside it."""
    torch.set_num_threads(1)
    told = tables.read("predictions", FORECASTS).query(deployment.UNSEEN)
    subject = checkpoints.trained_classifier(model, run, 0)
    files = (subject.folder / "model.safetensors", FORECASTS / tables.file_name("predictions"))
    key = key_of(STAGES, *map(file_hash, files), subject.task.fingerprint, epsilon)
    return kept_row(
        subject.folder / "safe_ratios.json",
        key,
        lambda: deployment.scanned(subject, told, epsilon).to_dict("list"),
    )


def main(run: str, epsilon: str = "0.01") -> None:
    """Measure, and write the table beside its provenance."""
    models = tables.read("models", paths.outputs(run))["model"].to_list()
    with multiprocessing.get_context("spawn").Pool() as pool:
        rows = pool.imap(partial(searched, run, float(epsilon)), models)
        found = pd.concat([pd.DataFrame(part) for part in track(rows, "models", total=len(models))])
    target = paths.MEASURED / "safe_ratios"
    tables.write("scans", found, target)
    records = {model: provenance.record(paths.run(run) / "models" / model) for model in models}
    provenance.write(target, {"command": f"python benchmarks/safe_ratios.py {run} {epsilon}", "models": records})
    evaluations = found.pivot(index=["model", "scope"], columns="method", values="evaluations")
    print(evaluations.describe().to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
