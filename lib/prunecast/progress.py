"""Progress on a terminal and milestones in a log; never a bar in a rendered page."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

TERMINAL = "PRUNECAST_TERMINAL"  # set by the runner: a kernel has no terminal of its own
LOG = "PRUNECAST_LOG"


def track(steps: Iterable[Any] | None = None, label: str = "", total: int | None = None) -> "tqdm[Any]":
    """A progress bar over `steps`, drawn on the terminal the command was typed in, if there is one."""
    terminal = _terminal()
    return tqdm(steps, desc=label, total=total, file=terminal, disable=terminal is None, leave=False)


def note(message: str) -> None:
    """Append one line with the time of day to the log of the running page, if one is kept."""
    if path := os.environ.get(LOG):
        with Path(path).open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {message}\n")


def terminal_name() -> str | None:
    """Device name of the terminal on standard error, to be handed to a kernel."""
    return os.ttyname(sys.stderr.fileno()) if sys.stderr.isatty() else None


def _terminal() -> IO[str] | None:
    if name := os.environ.get(TERMINAL):
        return Path(name).open("w", encoding="utf-8")
    return sys.stderr if sys.stderr.isatty() else None
