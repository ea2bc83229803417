import json

import pytest
from prunecast import cli, paths, tables
from prunecast.sweeps import collect
from prunecast.sweeps.journal import whole_lines
from prunecast.workflow import provenance, studies
from tiny import plan


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "collect"], "no page 'collect'"),
        (["run", "collect_sweeps", "-p", "point=3"], "no parameter 'point'"),
        (["run", "collect_sweeps", "-p", "points=three"], "must be of type int, not 'three'"),
        (["run", "collect_sweeps", "--study", "studies/none.yml"], "cannot be read"),
        (["keep", "studies/laptop.yml"], "study laptop has no tables"),
        (
            ["predict", "nowhere", "--task", "docstrings", "--epsilon", "2"],
            "epsilon is 2; it is the accuracy one would",
        ),
        (["predict", "no/where", "--task", "colour"], "there is no task 'colour'"),
        (["collect", "sst2_minilm", "--study", "studies/laptop.yml"], "study laptop has no model 'sst2_minilm'"),
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
    found = collect.collect(["tiny"], "small", plan(3))
    for name in ("models", "sweeps", "engines"):
        tables.write(name, getattr(found, name), paths.run("small") / "tables")
    monkeypatch.setattr(paths, "MEASURED", tmp_path / "measured")
    folder = provenance.keep(studies.read_study(file), file)
    for name in ("models.csv", "sweeps.csv", "engines.csv"):
        assert (folder / name).read_bytes() == (paths.run("small") / "tables" / name).read_bytes()
    stated = json.loads((folder / "provenance.json").read_text())
    assert stated["commands"] == ["prunecast run collect_sweeps --study studies/small.yml"]
    assert stated["models"]["tiny"]["weights"] == provenance.record(paths.run("small") / "models" / "tiny")["weights"]
    assert {"torch", "transformers"} <= set(stated["packages"])
    assert stated["wall_time_s"] > 0


def test_one_model_of_a_study_is_collected_as_its_page_would(tiny_models, tmp_path, capsys):
    file = tmp_path / "small.yml"
    file.write_text("study: small\npurpose: p\npages: {collect_sweeps: {models: [tiny], points: 3, exact: [tiny]}}\n")
    assert cli.main(["collect", "tiny", "--study", str(file)]) == 0
    assert "tiny: accuracy 1.000, majority class 0.333" in capsys.readouterr().out
    journal = paths.run("small") / "models" / "tiny" / collect.JOURNAL
    assert len(whole_lines(journal)) == 1 + 3 * 2
    before = journal.read_bytes()
    collect.collect(["tiny"], "small", plan(3, exact=["tiny"], criteria=["magnitude"]))
    assert journal.read_bytes() == before
