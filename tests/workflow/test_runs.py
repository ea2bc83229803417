import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest
from prunecast import __version__, paths, tables
from prunecast.errors import UserError
from prunecast.workflow import pages, runs

HEAD = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   prunecast:
#     writes: [reproductions.csv]
# ---

# %% [markdown]
# # A page

# %% tags=["parameters"]
run: str = "page"  # run
ours: float = 0.5  # a figure
fail: str = ""  # how to fail
data: str = ""  # a file

# %%
import os
import time
import pandas as pd
from prunecast import __version__, paths, tables
from prunecast.errors import UserError
from prunecast.progress import track
row = {"source": "a", "table": "t", "row": "r", "published": 0.1, "ours": ours, "unit": "x", "same_protocol": True}
_ = tables.write("reproductions", pd.DataFrame([row | {"note": "n"}]), paths.outputs(run))

# %%
if fail == "user":
    raise UserError("the moon is in the way")
if fail == "bug":
    1 / 0
if fail == "killed":
    os.kill(os.getpid(), 9)
if fail == "slow":
    time.sleep(60)
for _ in track(range(3), "counting sheep"):
    time.sleep(0.2)
print("ours is", ours)
if data:
    print(open(data).read())
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "page.py").write_text(HEAD)
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    pages.parameters_of.cache_clear()
    yield "page"
    pages.parameters_of.cache_clear()


def _ours():
    return tables.read("reproductions", paths.run("r") / "tables")["ours"].item()


def test_a_page_publishes_its_notebook_and_tables_and_leaves_nothing_else(page):
    notebook = runs.run_page(page, {"ours": 0.25}, "r")
    *cells, colophon = nbformat.read(notebook, 4).cells
    assert cells[-1].outputs[0].text == "ours is 0.25\n"
    links = r'<a href="parameters.html#page">parameters</a>\. .+<a href="tables.html#reproductions">reproductions</a>\.'
    said = rf"\*Executed on \d{{4}}-\d\d-\d\d in \d+ seconds by Prunecast {re.escape(__version__)}, on .+{links}\*"
    assert re.fullmatch(said, colophon.source)
    assert _ours() == 0.25
    left = {path.relative_to(paths.run("r")).as_posix() for path in paths.run("r").rglob("*") if path.is_file()}
    assert left == {"notebooks/page.ipynb", "tables/reproductions.csv", "logs/page.log"}
    assert str(paths.ROOT) not in notebook.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        ("user", "page page stopped: the moon is in the way"),
        ("bug", "ZeroDivisionError"),
        ("killed", "its kernel died"),
    ],
)
def test_a_failing_page_changes_nothing_and_keeps_its_notebook_as_the_log(page, fail, sentence):
    good = runs.run_page(page, {"ours": 0.25}, "r").read_bytes()
    with pytest.raises(UserError, match=sentence) as refusal:
        runs.run_page(page, {"ours": 0.75, "fail": fail}, "r")
    assert "\n" not in str(refusal.value)
    assert _ours() == 0.25
    assert (paths.run("r") / "notebooks" / "page.ipynb").read_bytes() == good
    outputs = [output for cell in nbformat.read(paths.run("r") / "logs" / "page.ipynb", 4).cells for output in
               cell.get("outputs", [])]  # fmt: skip
    assert fail == "killed" or [output.ename for output in outputs if output.output_type == "error"]


def test_an_unknown_parameter_is_refused_before_anything_runs(page):
    with pytest.raises(UserError, match="no parameter 'our'; it has data, fail, ours"):
        runs.run_page(page, {"our": 1.0}, "r")
    assert not paths.run("r").exists()


def test_a_relative_path_starts_in_the_folder_where_the_command_was_given(page, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.csv").write_text("found")
    monkeypatch.chdir(tmp_path / "here")
    *cells, _ = nbformat.read(runs.run_page(page, {"data": "mine.csv"}, "r"), 4).cells
    assert cells[-1].outputs[-1].text.endswith("found\n")
    with pytest.raises(UserError, match="there is no file or folder other.csv"):
        runs.run_page(page, {"data": "other.csv"}, "another")
    assert not paths.run("another").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_page_says_so_in_one_sentence_and_changes_nothing(page, sign, tmp_path):
    runs.run_page(page, {"ours": 0.25}, "r")
    script = (
        "import sys, pathlib; from prunecast import cli, paths\n"
        f"paths.NOTEBOOKS = pathlib.Path({str(paths.NOTEBOOKS)!r})\n"
        "sys.exit(cli.main(['run', 'page', '--study', sys.argv[1]]))"
    )
    study = tmp_path / "r.yml"
    study.write_text("study: r\npurpose: p\npages: {page: {ours: 0.75, fail: slow}}\n")
    running = subprocess.Popen(
        [sys.executable, "-c", script, study],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a script's background jobs ignore it
    )
    while not list(paths.run("r").glob(".page.*/tables/reproductions.csv")):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(sign)
    _, complaint = running.communicate(timeout=30)
    assert running.returncode == 130
    assert complaint.startswith("prunecast: page page was interrupted")
    assert complaint.count("\n") == 1
    assert _ours() == 0.25
    assert not list(paths.run("r").glob(".page.*"))


@pytest.mark.slow
def test_two_runs_of_a_page_at_once_do_not_disturb_each_other(page):
    script = (
        "import sys, pathlib; from prunecast import paths; from prunecast.workflow import runs\n"
        f"paths.NOTEBOOKS = pathlib.Path({str(paths.NOTEBOOKS)!r})\n"
        "runs.run_page('page', {'ours': 0.75}, 'r')"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], env=os.environ) for _ in range(2)]
    assert [running.wait() for running in both] == [0, 0]
    assert _ours() == 0.75


@pytest.mark.slow
def test_a_table_is_read_from_the_run_if_there_is_one_and_from_the_kept_ones_otherwise(page):
    assert isinstance(tables.read("models", paths.tables("campaign")), pd.DataFrame)
    runs.run_page(page, {}, "campaign")
    assert paths.tables("campaign") == paths.run("campaign") / "tables"


@pytest.mark.slow
def test_progress_is_drawn_on_the_terminal_and_not_in_the_notebook(page):
    script = (
        "import sys, pathlib; from prunecast import cli, paths\n"
        f"paths.NOTEBOOKS = pathlib.Path({str(paths.NOTEBOOKS)!r})\n"
        "sys.exit(cli.main(['run', 'page']))"
    )
    keyboard, terminal = pty.openpty()
    running = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the last writer has gone
        while piece := os.read(keyboard, 1024):
            shown += piece
    assert running.wait() == 0
    assert b"counting sheep" in shown
    assert "counting sheep: " not in (paths.run("page") / "notebooks" / "page.ipynb").read_text()
