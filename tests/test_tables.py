import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.sweeps import curve_metrics

ROW = {"source": "a", "table": "t", "row": "r", "published": 0.1, "ours": 1 / 3, "unit": "x", "same_protocol": True}
FRAME = pd.DataFrame([ROW | {"note": "n"}])


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    tables.write("reproductions", FRAME, tmp_path)
    pd.testing.assert_frame_equal(tables.read("reproductions", tmp_path), FRAME)


def test_an_empty_cell_stays_empty_where_the_contract_allows_it(tmp_path: Path) -> None:
    tables.write("reproductions", FRAME.assign(published=None), tmp_path)
    assert tables.read("reproductions", tmp_path)["published"].isna().all()


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (FRAME.drop(columns="unit"), "unit"),
        (FRAME.assign(ours="much"), "ours"),
        (FRAME.assign(same_protocol="maybe"), "same_protocol"),
        (FRAME.assign(note=None), "note"),
        (pd.concat([FRAME, FRAME]), "unique"),
    ],
)
def test_a_broken_contract_is_refused_by_name_and_the_old_table_stays(
    tmp_path: Path, broken: pd.DataFrame, named: str
) -> None:
    path = tables.write("reproductions", FRAME, tmp_path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=named):
        tables.write("reproductions", broken, tmp_path)
    assert path.read_bytes() == before


def test_a_value_outside_its_range_is_refused(tmp_path: Path) -> None:
    sweeps = tables.read("sweeps", paths.MEASURED / "campaign")
    with pytest.raises(UserError, match="accuracy"):
        tables.write("sweeps", sweeps.assign(accuracy=1.5), tmp_path)


def test_the_same_table_is_the_same_bytes_even_compressed(tmp_path: Path) -> None:
    predictions = pd.DataFrame(
        [
            {
                "protocol": "points", "surrogate": "lstm", "model": "m", "axis": "sigma", "scope": "layer",
                "threshold": 0.1, "accuracy": 0.5, "measured": True, "predicted": 0.4, "lower": None, "upper": None,
                "probes": 3, "samples": 0, "seed": 0,
            }
        ]
    )  # fmt: skip
    one, two = (tables.write("predictions", predictions, tmp_path / name).read_bytes() for name in "ab")
    assert one == two


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_table_and_is_one_sentence(tmp_path: Path) -> None:
    tables.write("reproductions", FRAME, tmp_path)
    script = """
import resource, signal, sys, pathlib, pandas as pd
from prunecast import tables
folder = pathlib.Path(sys.argv[1])
big = pd.concat([tables.read("reproductions", folder).assign(row=str(n)) for n in range(500)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    tables.write("reproductions", big, folder)
except ValueError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert "reproductions.csv was not written" in done.stderr
    assert done.stderr.count("\n") == 1
    pd.testing.assert_frame_equal(tables.read("reproductions", tmp_path), FRAME)
    assert [path.name for path in tmp_path.iterdir()] == ["reproductions.csv"]


def test_columns_of_an_earlier_version_are_read_under_their_present_names(tmp_path: Path) -> None:
    (tmp_path / "engines.csv").write_text(
        "criterion,scope,points,adaptive_examples,audited,surprises,belief_error_bound,largest_error,mean_error,model,"
        "engine,precision,eval_examples\nmagnitude,global,21,340,90,3,0.084,,,m,adaptive,float32,120\n"
    )
    (tmp_path / "models.csv").write_text(
        "model,architecture,family,base,parent,initialisation,task,kind,door,classes,parameters,layers,prunable_parameters,"
        "dense_accuracy,majority_accuracy,epochs,batch_size,weight_decay,train_examples,eval_examples,seed\n"
        "m,bert,bert,m,,scratch,colours,text,folder,3,9000,7,8000,0.95,0.33,15,16,0.01,180,90,0\n"
    )
    engines, models = tables.read("engines", tmp_path), tables.read("models", tmp_path)
    assert engines[["audit_misses", "audit_error_bound"]].to_numpy().tolist() == [[3, 0.084]]
    assert models["source"].tolist() == ["folder"]
    assert not {"door", "surprises", "belief_error_bound"} & {*engines, *models}
    with pytest.raises(UserError, match="source"):
        tables.write("models", models.rename(columns={"source": "door"}), tmp_path)


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no sweeps\.csv"):
        tables.read("sweeps", tmp_path)


def test_a_contract_has_known_rules_only() -> None:
    known = {"type", "description", "unit", "allowed", "minimum", "maximum", "nullable", "timed", "formerly", "absent"}
    rules = [rule for contract in tables.contracts().values() for rule in contract["columns"].values()]
    assert set().union(*rules) <= known  # an unquoted comma ends a description, and its rest becomes a rule
    assert all({"type", "description"} <= set(rule) for rule in rules)


def test_the_data_readme_states_every_contract() -> None:
    readme = (paths.DATA / "README.md").read_text(encoding="utf-8")
    for table, contract in tables.contracts().items():
        section = readme.split(f"## {table}\n")[1].split("\n## ")[0]
        for column, rule in contract["columns"].items():
            assert f"| `{column}`" in section
            assert rule["description"] in section


@pytest.mark.parametrize("folder", sorted(paths.MEASURED.iterdir()), ids=lambda path: path.name)
def test_measured_tables_keep_their_contract_and_state_their_provenance(folder: Path) -> None:
    names = [name for name in tables.contracts() if (folder / tables.file_name(name)).exists()]
    measured = {name: tables.read(name, folder) for name in names}
    assert (folder / "provenance.json").exists()
    if "models" in measured:
        models, sweeps, engines = (set(measured[name]["model"]) for name in ("models", "sweeps", "engines"))
        assert sweeps == models == engines


def test_the_campaign_is_as_wide_as_its_page_says_and_every_model_learned_its_task() -> None:
    models = tables.read("models", paths.MEASURED / "campaign")
    engines = tables.read("engines", paths.MEASURED / "campaign")
    text = models[(models["kind"] == "text") & (models["base"] == models["model"])]
    assert len(text) >= 17
    assert text["architecture"].nunique() >= 8
    assert text["task"].nunique() >= 10
    assert curve_metrics.learned(models).all()
    assert engines.loc[engines["engine"] == "exact", "model"].nunique() >= 6
    beyond = engines[engines["largest_error"] > 0.01]
    assert set(beyond["model"]) <= {"mnist_fc5"}  # its fall is steeper than the adaptive engine follows: 0.017
    assert engines["mean_error"].max() <= 0.001


def test_tables_of_several_studies_are_one_below_the_other_and_share_no_key(tmp_path: Path) -> None:
    for study, row in {"a": "first", "b": "second"}.items():
        tables.write("reproductions", FRAME.iloc[:1].assign(row=row), tmp_path / study)
    both = tables.read_all("reproductions", [tmp_path / "a", tmp_path / "b"])
    assert both["row"].to_list() == ["first", "second"]
    with pytest.raises(UserError, match="reproductions breaks its contract"):
        tables.read_all("reproductions", [tmp_path / "a", tmp_path / "a"])
