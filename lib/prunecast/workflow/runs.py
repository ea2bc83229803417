"""Running one page: its parameters checked first, its products published together or not at all."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import psutil
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from prunecast import __version__, paths
from prunecast.errors import UserError
from prunecast.hardware import processor
from prunecast.progress import LOG, TERMINAL, note, terminal_name
from prunecast.workflow.contracts import tables_of
from prunecast.workflow.studies import RUN, check_parameters
from prunecast.workflow.values import resolved

logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it has to say is said in a sentence below


class SocketKernelManager(AsyncKernelManager):
    """Kernels on Unix sockets in a folder of their own: pages that run side by side cannot collide on a port."""

    def __init__(self, **options: Any):
        self._sockets = tempfile.TemporaryDirectory(prefix="prunecast-")
        super().__init__(**options | {"transport": "ipc", "ip": f"{self._sockets.name}/kernel"})


def run_page(page: str, values: Mapping[str, Any], run: str) -> Path:
    """Execute `page` with the parameters `values` as part of `run`, and return the executed notebook.

    The executed notebook and the tables appear in the run's folder together, after the last cell. A run that fails or
    is interrupted leaves them as they were, and its notebook and log in `logs/`. Relative paths among the values start
    in the current folder. Raises UserError, or for an interrupt KeyboardInterrupt with a sentence.
    """
    check_parameters(page, values)
    values = resolved(values)
    folder = paths.run(run)
    logs = folder / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{page}.") as work:
            return _run_in(Path(work), page, dict(values) | {RUN: run}, folder)
    except OSError as error:
        raise UserError(f"page {page} stopped, and nothing of it was published: {error.strerror or error}") from None


def _run_in(work: Path, page: str, values: dict[str, Any], folder: Path) -> Path:
    source, executed, stage = work / f"{page}.ipynb", work / f"{page}.executed.ipynb", work / "tables"
    kept = folder / "logs" / f"{page}.ipynb"
    log = kept.with_suffix(".log")
    for old in (kept, log):
        old.unlink(missing_ok=True)
    stage.mkdir()
    jupytext.write(jupytext.read(paths.NOTEBOOKS / f"{page}.py"), source)
    settings = {"PRUNECAST_STAGE": str(stage), LOG: str(log), "IPYTHONDIR": str(work / "ipython")}
    with _environment(settings | ({TERMINAL: name} if (name := terminal_name()) else {})):
        note(f"{page}: started with {values}")
        try:
            notebook = _interruptible(lambda: _execute(source, executed, values))
        except (PapermillExecutionError, DeadKernelError, KeyboardInterrupt) as error:
            if executed.exists():
                shutil.move(executed, kept)
            kind = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
            raise kind(_sentence(page, error, kept)) from None
        note(f"{page}: finished")
    return _publish(notebook, stage, page, folder)


def _execute(source: Path, output: Path, values: dict[str, Any]) -> nbformat.NotebookNode:
    executed: nbformat.NotebookNode = papermill.execute_notebook(
        source,
        output,
        parameters=values,
        kernel_name="python3",
        cwd=paths.ROOT,
        progress_bar=False,
        kernel_manager_class=SocketKernelManager,
    )
    return executed


def _interruptible(execute: Callable[[], nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """Call `execute` in a thread: the main one waits, and on an interrupt kills the kernel, which ends `execute`.

    So an interrupt is distinguished from a kernel that died, and no kernel prints where it was interrupted.
    """
    with ThreadPoolExecutor(max_workers=1) as worker:
        execution = worker.submit(execute)
        try:
            return execution.result()
        except KeyboardInterrupt:
            while not execution.done():
                for kernel in psutil.Process().children():
                    kernel.kill()
                wait([execution], timeout=0.2)
            raise


def _publish(executed: nbformat.NotebookNode, stage: Path, page: str, folder: Path) -> Path:
    """Move tables and notebook into the run's folder; every byte is on the disk before the first one moves."""
    executed.cells.append(_colophon(page, executed.metadata.papermill))
    executed.metadata.papermill.update(input_path=f"notebooks/{page}.py", output_path=f"{page}.ipynb")
    notebook = stage / f"{page}.ipynb"
    nbformat.write(executed, notebook)  # type: ignore[no-untyped-call]
    for name in ("tables", "notebooks"):
        (folder / name).mkdir(exist_ok=True)
    for table in stage.glob("*.csv*"):
        table.replace(folder / "tables" / table.name)
    return notebook.replace(folder / "notebooks" / notebook.name)


def _colophon(page: str, execution: Mapping[str, Any]) -> nbformat.NotebookNode:
    """A last cell: when, how long, by which version and where the page was executed; its parameters and its tables."""
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    when, seconds = execution["end_time"][:10], f"{execution['duration']:.0f} seconds"
    text = (
        f"*Executed on {when} in {seconds} by Prunecast {__version__}, on {processor()}, using at most "
        f"{threads} {'thread' if threads == 1 else 'threads'}. What can be changed: its {_link('parameters', page)}."
    )
    if tables := ", ".join(_link("tables", table) for table in tables_of(page)):
        text += f" Its figures are drawn from: {tables}."
    text += "*"
    cell: nbformat.NotebookNode = nbformat.v4.new_markdown_cell(text, id="colophon")  # type: ignore[no-untyped-call]
    return cell


def _link(to: str, section: str) -> str:
    """A link to a section of the book's page on parameters or on tables."""
    anchor, words = section.replace("_", "-"), "parameters" if to == "parameters" else section.replace("_", " ")
    return f'<a href="{to}.html#{anchor}">{words}</a>'


def _sentence(page: str, error: BaseException, kept: Path) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"page {page} was interrupted: what it had measured is kept; give the same command to go on"
    if isinstance(error, PapermillExecutionError):
        cause = error.evalue if error.ename == UserError.__name__ else f"{error.ename}: {error.evalue}"
    else:
        cause = "its kernel died, perhaps for want of memory"
    return f"page {page} stopped: {cause} (the notebook as far as it came: {kept})"


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
