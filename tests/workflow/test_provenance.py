import hashlib
import json

import pandas as pd
import pytest
from prunecast import paths, tables
from prunecast.workflow import contracts, pages, provenance, studies


@pytest.mark.parametrize("folder", sorted(paths.MEASURED.iterdir()), ids=lambda path: path.name)
def test_measured_tables_are_those_that_the_program_wrote(folder):
    stated = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["tables"]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.csv*")}
    assert stated == found


def test_keeping_a_study_writes_the_hash_of_each_table(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "MEASURED", tmp_path / "measured")
    row = {"source": "a", "table": "t", "row": "r", "published": 0.1, "ours": 0.2, "unit": "x", "same_protocol": True}
    tables.write("reproductions", pd.DataFrame([row | {"note": "n"}]), paths.run("small") / "tables")
    file = tmp_path / "small.yml"
    file.write_text("study: small\npurpose: p\npages: {}\n")
    target = provenance.keep(studies.read_study(file), file)
    digest = hashlib.sha256((target / "reproductions.csv").read_bytes()).hexdigest()
    kept = json.loads((target / "provenance.json").read_text())
    assert kept["tables"] == {"reproductions.csv": digest}
    assert kept["study_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_pages_on_tables_and_parameters_are_those_generated_from_contracts_and_notebooks():
    assert (paths.DATA / "README.md").read_text(encoding="utf-8") == contracts.described()
    assert (paths.ROOT / "book" / "parameters.md").read_text(encoding="utf-8") == pages.described()
    assert "| `epsilon` | accuracy you would give up | float | `0.01` |" in pages.described()
