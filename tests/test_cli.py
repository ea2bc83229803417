import json

import pytest
from prunecast import cli, collect, paths, provenance, studies, tables


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "collect"], "no page 'collect'"),
        (["run", "collect_sweeps", "-p", "point=3"], "no parameter 'point'"),
        (["run", "collect_sweeps", "-p", "points=three"], "must be of type int, not 'three'"),
        (["run", "collect_sweeps", "--study", "studies/none.yml"], "cannot be read"),
        (["keep", "studies/laptop.yml"], "study laptop has no tables"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_two(arguments, sentence, capsys):
    assert cli.main(arguments) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.startswith("prunecast: ")
    assert complaint.count("\n") == 1


def test_keeping_a_study_copies_its_tables_with_their_provenance(tiny_models, tmp_path, monkeypatch):
    file = tmp_path / "small.yml"
    file.write_text("study: small\npurpose: p\npages: {collect_sweeps: {}}\n")
    models, sweeps = collect.collect(["tiny"], "small", 3, 0)
    for name, frame in (("models", models), ("sweeps", sweeps)):
        tables.write(name, frame, paths.run("small") / "tables")
    monkeypatch.setattr(paths, "MEASURED", tmp_path / "measured")
    folder = provenance.keep(studies.read_study(file), file)
    for name in ("models.csv", "sweeps.csv"):
        assert (folder / name).read_bytes() == (paths.run("small") / "tables" / name).read_bytes()
    stated = json.loads((folder / "provenance.json").read_text())
    assert stated["commands"] == ["prunecast run collect_sweeps --study studies/small.yml"]
    assert stated["models"]["tiny"]["weights"] == collect.record("small", "tiny")["weights"]
    assert {"torch", "transformers"} <= set(stated["packages"])
    assert stated["wall_time_s"] > 0
