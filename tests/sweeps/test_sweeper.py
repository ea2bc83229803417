import pytest
import torch
from prunecast.models.inputs import Examples
from prunecast.pruning.masks import SCOPES, Scope
from prunecast.sweeps import sweeper
from prunecast.sweeps.safe_search import search_safe
from torch import Tensor, nn

SIZE = 20


class Diagonal(nn.Module):
    """Its hidden weights are a diagonal of growing size, so its pruning curve can be derived: see the test."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(SIZE, SIZE, bias=False), nn.Linear(SIZE, SIZE, bias=False)
        self.hidden.weight.data = torch.diag(torch.arange(1.0, SIZE + 1))
        self.output.weight.data = torch.eye(SIZE)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"logits": self.output(self.hidden(pixel_values))}


def _sweeper(model: Diagonal) -> sweeper.Sweeper:
    """Example i has input i at one, the others at zero, and label i."""
    examples = Examples(torch.eye(SIZE), None, torch.arange(SIZE))
    return sweeper.Sweeper(model, {"hidden.weight": model.hidden.weight}, examples, "float32", seed=0)


def _unchanged(model: Diagonal) -> bool:
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), Diagonal().parameters(), strict=True))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("engine", ["exact", "adaptive"])
def test_a_known_curve_is_recovered(engine: sweeper.Engine, scope: Scope) -> None:
    """Zeros are pruned first; then example after example fails, except the first: a tie of zero logits is class 0."""
    rows, _ = _sweeper(Diagonal()).curve("magnitude", scope, sweeper.grid(401), engine)
    lost = (rows["pruned"] - SIZE * (SIZE - 1)).clip(lower=0)
    expected = 1 - (lost - 1).clip(lower=0) / SIZE
    assert rows["accuracy"].to_list() == pytest.approx(expected.to_list())
    assert rows["pruned"].to_list() == list(range(SIZE * SIZE + 1))


def test_the_model_is_unchanged_after_a_sweep() -> None:
    model = Diagonal()
    _sweeper(model).curve("random", "global", sweeper.grid(5), "exact")
    assert _unchanged(model)


def test_a_search_finds_the_safe_point_of_the_swept_curve_and_leaves_the_model_unchanged() -> None:
    model, thresholds = Diagonal(), sweeper.grid(101)[:-1]
    whole, _ = _sweeper(model).curve("magnitude", "layer", thresholds, "exact")
    falls = (whole["accuracy"] < whole["accuracy"].iloc[0] - 0.1 - 1e-9).to_numpy()
    with _sweeper(model).masked_evaluation("magnitude", "layer", thresholds) as (evaluate, _, _):
        safe = search_safe(evaluate, len(thresholds), SIZE, 0.1, 50)
    assert safe.point == falls.argmax() - 1
    assert safe.accuracy == pytest.approx(whole["accuracy"].iloc[safe.point])
    assert _unchanged(model)
