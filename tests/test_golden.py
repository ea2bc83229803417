"""A stage whose numbers move must raise its version, or what an earlier version kept would be taken for its own."""

import json

import golden
import pytest
from prunecast.cache import VERSIONS

EXPECTED = json.loads(golden.FILE.read_text(encoding="utf-8"))
TOLERANCE = 2e-3  # relative; another processor adds in another order
OF_ONE_EXAMPLE = 0.05  # relative, of what an example on the decision boundary changes in a step
STEPS = (
    "accuracy",
    "agreement",
    "changes",
    "magnitude_pruned",
    "wanda_pruned",
    "same_sparsity",
    "optimum",
    "error",
    "lmc",
    "flow",
    "ridge",
    "live_edges",
)
WRITE = "python tests/golden.py writes tests/golden.json"


@pytest.fixture(scope="module")
def measured():
    return golden.measure()


@pytest.mark.slow
@pytest.mark.parametrize("stage", VERSIONS)
def test_the_numbers_of_a_stage_move_only_with_its_version(measured, stage):
    expected = EXPECTED[stage]
    assert expected["version"] == VERSIONS[stage], f"the version of {stage} was raised: {WRITE}"
    moved = {
        name: (value, expected["numbers"][name])
        for name, value in measured[stage].items()
        if value != pytest.approx(expected["numbers"][name], rel=OF_ONE_EXAMPLE if name.endswith(STEPS) else TOLERANCE)
    }
    assert not moved, f"numbers of {stage} moved: raise VERSIONS[{stage!r}] in prunecast.cache, then {WRITE}"
