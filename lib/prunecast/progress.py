"""Progress bars on the terminal and milestones in a log file; neither is written into a rendered page."""

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
    """Make a progress bar, drawn on the terminal on which the command was started, if there is one.

    Args:
        steps: What to iterate over; None for a bar that is updated by hand.
        label: Text before the bar.
        total: Number of steps, where `steps` has no length.

    Returns:
        The bar, which yields the items of `steps`.
    """
    terminal = _terminal()
    return tqdm(steps, desc=label, total=total, file=terminal, disable=terminal is None, leave=False)


def note(message: str) -> None:
    """Append one line with the time of day to the log of the running page, and print it on the terminal, if any.

    Args:
        message: The line, without a line break.
    """
    if terminal := _terminal():
        tqdm.write(message, file=terminal)
    if path := os.environ.get(LOG):
        with Path(path).open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {message}\n")


def terminal_name() -> str | None:
    """Device name of the terminal on standard error, to be passed to a kernel; None where there is no terminal."""
    return os.ttyname(sys.stderr.fileno()) if sys.stderr.isatty() else None


def _terminal() -> IO[str] | None:
    if name := os.environ.get(TERMINAL):
        return Path(name).open("w", encoding="utf-8")
    return sys.stderr if sys.stderr.isatty() else None
