"""Execute every page of the default study again, with nbval; compare all outputs and tables with those of `make book`.

python tests/reproduce.py FOLDER    a runs folder; what it does not hold is trained and measured anew
"""

import os
import subprocess
import sys
from pathlib import Path

from products import RUN, executed_pages
from prunecast import paths

NBVAL = ["-m", "pytest", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=1800"]


def main(runs: Path) -> int:
    """Exit status: 0 where nothing differs."""
    environment = os.environ | {"PRUNECAST_RUNS": str(runs)}
    pages = sorted(executed_pages(), key=lambda path: path.stem != "collect_sweeps")  # it writes what the others read
    status = subprocess.run([sys.executable, *NBVAL, *pages], env=environment, cwd=paths.ROOT).returncode
    for table in sorted((RUN / "tables").iterdir()):
        same = (runs / RUN.name / "tables" / table.name).read_bytes() == table.read_bytes()
        print(table.name, "is the same, byte for byte" if same else "differs")
        status = status or not same
    return int(status)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
