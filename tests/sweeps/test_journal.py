import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prunecast import progress
from prunecast.errors import UserError
from prunecast.models.evaluation import Outcome
from prunecast.sweeps.adaptive import Rows
from prunecast.sweeps.journal import Journal, whole_lines

KEY: dict[str, Any] = {"stages": {}, "libraries": {}, "inputs": "some"}


def _outcome(point: int, rows: Rows) -> Outcome:
    margin = torch.from_numpy(rows - point + 0.5).float()
    return Outcome(margin > 0, margin.double().exp(), margin)


def _never(point: int, rows: Rows) -> Outcome:
    raise AssertionError(f"point {point} was evaluated again")


def test_recorded_outcomes_are_read_back_exactly_and_not_evaluated_again(tmp_path: Path) -> None:
    recorded = Journal(tmp_path / "evaluations.jsonl", KEY).recorded("a", _outcome)
    first = [recorded(point, np.arange(9)) for point in range(3)]
    with (tmp_path / "evaluations.jsonl").open("a") as file:
        file.write('{"curve": "a", "poi')  # a line cut short by a kill
    again = Journal(tmp_path / "evaluations.jsonl", KEY).recorded("a", _never)
    for point, outcome in enumerate(first):
        same = again(point, np.arange(9))
        assert all(torch.equal(getattr(same, name), values) for name, values in vars(outcome).items())
    with pytest.raises(AssertionError, match="point 3 was evaluated again"):
        again(3, np.arange(9))
    assert len(whole_lines(tmp_path / "evaluations.jsonl")) == 1 + 3


def test_a_journal_with_another_key_is_begun_anew(tmp_path: Path) -> None:
    Journal(tmp_path / "evaluations.jsonl", KEY).recorded("a", _outcome)(0, np.arange(9))
    Journal(tmp_path / "evaluations.jsonl", KEY | {"inputs": "others"})
    assert whole_lines(tmp_path / "evaluations.jsonl") == [{"key": KEY | {"inputs": "others"}}]


@pytest.mark.parametrize(("point", "rows"), [(2, [0, 1, 2]), (1, [0, 1]), (1, [0, 1, 3]), (1, [0, 2, 1])])
def test_evaluations_of_another_point_or_other_examples_are_not_read(
    point: int, rows: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model" / "evaluations.jsonl"
    path.parent.mkdir()
    monkeypatch.setenv(progress.LOG, str(tmp_path / "log"))
    for curve in ("a", "b"):
        recorded = Journal(path, KEY).recorded(curve, _outcome)
        for at in range(3):
            recorded(at, np.arange(3))
    again = Journal(path, KEY)
    recorded = again.recorded("a", _outcome)
    recorded(0, np.arange(3))
    outcome = recorded(point, np.array(rows))
    assert outcome.margin.tolist() == _outcome(point, np.array(rows)).margin.tolist()
    assert "model/evaluations.jsonl: a is begun anew" in (tmp_path / "log").read_text()
    assert [(line["curve"], line["point"]) for line in whole_lines(path)[1:]] == [
        ("a", 0),
        *(("b", at) for at in range(3)),
        ("a", point),
    ]
    resumed = Journal(path, KEY).recorded("a", _never)
    assert len(resumed(0, np.arange(3)).correct) == 3
    assert len(resumed(point, np.array(rows)).correct) == len(rows)


def test_lines_of_an_earlier_version_without_a_hash_of_the_examples_are_read(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    Journal(path, KEY).recorded("a", _outcome)(0, np.arange(9))
    header, line = whole_lines(path)
    del line["rows"]
    path.write_text("".join(json.dumps(each) + "\n" for each in (header, line)))
    outcome = Journal(path, KEY).recorded("a", _never)(0, np.arange(9))
    assert outcome.margin.tolist() == _outcome(0, np.arange(9)).margin.tolist()


def test_a_full_disk_is_one_sentence_and_no_evaluation_is_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "evaluations.jsonl", KEY)
    journal._append({"curve": "a", "point": 0})
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    whole, journal.path = journal.path, tmp_path / "full.jsonl"
    with pytest.raises(UserError, match="was not written to: No space left on device") as refusal:
        journal._append({"curve": "a", "point": 1})
    assert "\n" not in str(refusal.value)
    assert whole_lines(whole) == [{"key": KEY}, {"curve": "a", "point": 0}]
