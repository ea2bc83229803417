"""Does every architecture of transformers give the numbers of plain torch? Writes `data/measured/architectures`.

    python benchmarks/architectures.py

A run that was interrupted goes on where it stopped: its rows are in runs/architectures/rows.jsonl until the table is
written.
"""

import json
import sys
from typing import get_args

import pandas as pd
import torch
from prunecast import paths, tables
from prunecast.experiments.architectures import compared
from prunecast.experiments.small_models import Kind, architectures
from prunecast.forecasting.subjects import open_subject
from prunecast.workflow import provenance


def main() -> None:
    """Compare all architectures, write the table with its provenance, and print the counts."""
    torch.set_num_threads(1)
    journal = paths.run("architectures") / "rows.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    done = {row["classifier"] for row in rows}
    for kind in get_args(Kind):
        for classifier, model_type in architectures(kind).items():
            if classifier not in done:
                rows.append(compared(classifier, model_type, kind, open_subject))
                print(f"{classifier}: {rows[-1]['outcome']}", file=sys.stderr)
                with journal.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    folder = paths.MEASURED / "architectures"
    table = pd.DataFrame(rows).round({"counted_share": 4})
    tables.write("architectures", table, folder)
    provenance.write(folder, {"command": "python benchmarks/architectures.py", "models": {}})
    journal.unlink()
    print(table.groupby(["kind", "outcome"]).size())


if __name__ == "__main__":
    main()
