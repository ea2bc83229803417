import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import binder_pins
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from prunecast import __version__, paths
from prunecast.workflow import pages


def _pins() -> dict[str, str]:
    lines = (paths.ROOT / "requirements.lock").read_text().split()
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def _project() -> dict:
    return tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def test_every_requirement_is_pinned_within_its_range():
    project, pins = _project(), _pins()
    for text in [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name.lower()]), text


def test_the_tests_run_on_the_pins():
    for name, version in _pins().items():
        assert importlib.metadata.version(name).split("+")[0] == version


def test_conda_installs_the_same_pins():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert packages == {"pip": ["-r requirements.lock"]}
    assert pip == "pip"
    assert Version(python.removeprefix("python=")) >= Version(_project()["requires-python"].removeprefix(">="))


def test_binder_installs_the_pins_that_the_book_needs_and_nothing_else():
    index, *lines = binder_pins.FILE.read_text(encoding="utf-8").splitlines()
    assert index == binder_pins.INDEX
    installed = {binder_pins.canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    pins = {binder_pins.canonicalize_name(name): version for name, version in _pins().items()}
    needed = binder_pins.needed()
    assert installed == {
        name: version + ("+cpu" if name in {"torch", "torchvision"} else "")
        for name, version in pins.items()
        if name in needed
    }, "python tests/binder_pins.py writes binder/requirements.txt"
    assert {"papermill", "jupyter-book", "jupytext", "pandas", "torch"} <= set(installed)
    assert not {"pytest", "ruff", "mypy", "onnx"} & set(installed)


def test_binder_has_a_python_that_the_package_allows():
    version = (binder_pins.FILE.parent / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert Version(version) in SpecifierSet(_project()["requires-python"])


def test_binder_finds_every_page_as_a_notebook(tmp_path):
    """`postBuild` as Binder calls it, from the root of the repository, without the installation."""
    shutil.copytree(paths.NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns("*.ipynb"))
    pip = tmp_path / "bin" / "pip"
    pip.parent.mkdir()
    pip.write_text('#!/bin/sh\necho "$@" > pip.txt\n')
    pip.chmod(0o755)
    path = f"{pip.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run([binder_pins.FILE.parent / "postBuild"], cwd=tmp_path, env=os.environ | {"PATH": path}, check=True)
    assert (tmp_path / "pip.txt").read_text().split() == ["install", "--no-cache-dir", "--no-deps", "--editable", "."]
    assert {file.stem for file in (tmp_path / "notebooks").glob("*.ipynb")} == set(pages.pages())


def test_the_files_for_citation_describe_this_version():
    project = _project()
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text())
    codemeta = json.loads((paths.ROOT / "codemeta.json").read_text())
    assert citation["version"] == codemeta["version"] == __version__
    assert codemeta["description"] == project["description"]
    assert citation["license"] == codemeta["license"].rpartition("/")[2] == project["license"]
    (author,), (organisation,) = citation["authors"], codemeta["author"]
    assert author["name"] == organisation["name"]


def test_the_workflow_of_a_code_host_runs_the_test_command_and_checks_that_there_is_a_book():
    workflow = yaml.safe_load((paths.ROOT / ".github" / "workflows" / "book.yml").read_text())
    steps = workflow["jobs"]["book"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == ["make test", "test -s _build/html/index.html"]
    (python,) = (step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", ""))
    assert Version(python) in SpecifierSet(_project()["requires-python"])
    (published,) = (step["with"] for step in steps if "upload-artifact" in step.get("uses", ""))
    assert published["path"] == "_build/html"


def test_the_commands_of_the_readme_exist():
    readme = (paths.ROOT / "README.md").read_text()
    makefile = (paths.ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z]+)", readme, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for study in set(re.findall(r"STUDY=(\w+)", readme)):
        assert (paths.STUDIES / f"{study}.yml").exists()
