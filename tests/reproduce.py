"""Execute the pages of the default study again, with nbval; compare all outputs and tables with those of `make book`.

What depends on the clock is left out: the cells tagged nbval-ignore-output, and what the contracts call timed. Besides,
every data file that a page opens must be named in its header.

python tests/reproduce.py FOLDER    a runs folder; what it does not hold is trained and measured anew
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from products import RUN, executed_pages
from prunecast import paths, tables
from prunecast.workflow import pages

OPENED = """
import os, sys

def _record(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and os.environ.get("PRUNECAST_OPENED"):
        path = os.path.abspath(arguments[0])
        if path.startswith(tuple(os.environ["PRUNECAST_WATCHED"].split(os.pathsep))):
            log = os.open(os.environ["PRUNECAST_OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, (path + chr(10)).encode())
            os.close(log)

sys.addaudithook(_record)
"""  # run at the start of each kernel
NBVAL = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval", "--nbval-current-env"]
FIRST = "collect_sweeps"  # it writes what the others read
CORES = int(os.environ.get("CORES", "2"))


def main(runs: Path, names: Sequence[str]) -> int:
    """Execute the pages `names` again in the runs folder `runs`.

    Pages have as many threads as in the workflow, so that their numbers are the same; those of one thread run side by
    side.

    Returns:
        The exit status: 0 where nothing differs.
    """
    startup = runs / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00_opened.py").write_text(OPENED)
    complaints = [_executed(name, runs, 1) for name in names if name == FIRST]
    of_all_cores = [name for name in names if pages.files_of(name).all_cores]
    with ThreadPoolExecutor(CORES) as pool:
        side_by_side = [name for name in names if name not in (FIRST, *of_all_cores)]
        complaints += pool.map(lambda name: _executed(name, runs, 1), side_by_side)
    complaints += [_executed(name, runs, CORES) for name in of_all_cores]
    for table in sorted(table for name in names for table in pages.files_of(name).writes):
        if not _untimed(runs / RUN.name / "tables" / table).equals(_untimed(RUN / "tables" / table)):
            complaints.append(f"{table} differs\n")
    print("".join(complaints))
    return int(any(complaints))


def digest_of(page: str) -> str:
    """The sha256 of a page as `make book` executed it."""
    return hashlib.sha256((RUN / "notebooks" / f"{page}.ipynb").read_bytes()).hexdigest()


def _executed(page: str, runs: Path, threads: int) -> str:
    started, opened = time.monotonic(), runs / f"{page}.opened"
    watched = os.pathsep.join([str(paths.DATA), str(runs / RUN.name / "tables")])
    settings = {
        "PRUNECAST_RUNS": str(runs),
        "PRUNECAST_OPENED": str(opened),
        "PRUNECAST_WATCHED": watched,
        "IPYTHONDIR": str(runs / "ipython"),
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, *NBVAL, "--nbval-cell-timeout=1800", str(RUN / "notebooks" / f"{page}.ipynb")]
    done = subprocess.run(command, env=os.environ | settings, cwd=paths.ROOT, capture_output=True, text=True)
    print(f"{page}: {time.monotonic() - started:.0f} s", flush=True)
    complaint = done.stdout[-3000:] if done.returncode else ""
    if undeclared := _opened(opened, runs) - _declared(page):
        complaint += f"{page} opens what its header does not name: {', '.join(sorted(undeclared))}\n"
    return complaint


def _opened(log: Path, runs: Path) -> set[str]:
    """Files that a page opened, as its header would name them; temporary ones begin with a dot."""
    files = {Path(line) for line in log.read_text().splitlines()} if log.exists() else set()
    files = {path for path in files if not path.name.startswith(".")}
    own = {f"tables/{path.name}" for path in files if path.is_relative_to(runs)}
    return own | {path.relative_to(paths.ROOT).as_posix() for path in files if path.is_relative_to(paths.DATA)}


def _declared(page: str) -> set[str]:
    files = pages.files_of(page)
    return {*files.reads, *(f"tables/{name}" for name in files.writes), "data/schemas.yml"}


def _untimed(table: Path) -> pd.DataFrame:
    contract = tables.contracts()[table.name.split(".")[0]]
    timed = {name for name, rule in contract["columns"].items() if rule.get("timed") or contract.get("timed")}
    frame = pd.read_csv(table, float_precision="round_trip")
    return frame.drop(columns=timed & set(frame.columns))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), [path.stem for path in executed_pages()]))
