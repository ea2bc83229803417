"""Execute every page of the default study again, with nbval; compare all outputs and tables with those of `make book`.

What hangs on the clock is left out: the cells tagged nbval-ignore-output, and what the contracts call timed.

python tests/reproduce.py FOLDER    a runs folder; what it does not hold is trained and measured anew
"""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from products import RUN, executed_pages
from prunecast import paths, tables

NBVAL = ["-m", "pytest", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=1800"]


def main(runs: Path) -> int:
    """Exit status: 0 where nothing differs."""
    environment = os.environ | {"PRUNECAST_RUNS": str(runs)}
    pages = sorted(executed_pages(), key=lambda path: path.stem != "collect_sweeps")  # it writes what the others read
    status = subprocess.run([sys.executable, *NBVAL, *pages], env=environment, cwd=paths.ROOT).returncode
    for table in sorted((RUN / "tables").iterdir()):
        same = _untimed(runs / RUN.name / "tables" / table.name).equals(_untimed(table))
        print(table.name, "is the same" if same else "differs")
        status = status or not same
    return int(status)


def _untimed(table: Path) -> pd.DataFrame:
    contract = tables.contracts()[table.name.split(".")[0]]
    timed = {name for name, rule in contract["columns"].items() if rule.get("timed") or contract.get("timed")}
    frame = pd.read_csv(table, float_precision="round_trip")
    return frame.drop(columns=timed & set(frame.columns))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
