from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


def test_a_full_disk_is_one_sentence_and_no_evaluation_is_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "evaluations.jsonl", KEY)
    journal._append({"curve": "a", "point": 0})
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    whole, journal.path = journal.path, tmp_path / "full.jsonl"
    with pytest.raises(UserError, match="was not written to: No space left on device") as refusal:
        journal._append({"curve": "a", "point": 1})
    assert "\n" not in str(refusal.value)
    assert whole_lines(whole) == [{"key": KEY}, {"curve": "a", "point": 0}]
