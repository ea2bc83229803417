from collections.abc import Iterator
from typing import Any

import pytest
import torch
from prunecast.errors import UserError
from prunecast.models.prunable import prunable_weights
from prunecast.pruning import criteria
from prunecast.pruning.criteria import DataDependentName, criterion_called
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

STEP = 1e-4
EVERY = 7  # of the weights of a layer one in so many is moved

TRANSPOSED: Any = Conv1D  # has no types
Weights = dict[str, Tensor]
Batches = list[dict[str, Tensor]]


class Classifier(nn.Module):
    """A convolution, one of two groups, a linear layer and GPT-2's on every position, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, stride=2)
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.linear = nn.Linear(6, 5)
        self.transposed: nn.Module = TRANSPOSED(3, 5)
        self.double()

    def inputs(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The inputs of each layer (n, channels, …), by the name of its weights, and the logits (n, classes)."""
        first = torch.tanh(self.plain(images))
        pixels = torch.tanh(self.grouped(first)).flatten(2)
        hidden = torch.tanh(self.linear(pixels.transpose(1, 2)))
        logits = self.transposed(hidden).mean(1)
        inputs = [images.flatten(2), first.flatten(2), pixels, hidden.transpose(1, 2)]
        return dict(zip(prunable_weights(self, 0), inputs, strict=True)), logits

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": functional.cross_entropy(self.inputs(images)[1], labels)}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Classifier().eval()


@pytest.fixture
def weights(model: Classifier) -> Weights:
    weights: Weights = prunable_weights(model, 0)
    return weights


@pytest.fixture
def batches() -> Batches:
    torch.manual_seed(1)
    return [
        {"images": torch.randn(size, 3, 7, 7, dtype=torch.float64), "labels": torch.randint(3, (size,))}
        for size in (5, 5, 2)
    ]


def _loss(model: nn.Module, batches: Batches) -> float:
    return sum(float(model(**batch)["loss"]) for batch in batches) / len(batches)


@torch.no_grad()
def _slope(model: nn.Module, batches: Batches, weight: Tensor, at: int, step: float) -> float:
    """Central difference of the mean loss where one weight is moved by plus and minus `step`."""
    flat, losses = weight.view(-1), []
    before = float(flat[at])
    for moved in (before + step, before - step):
        flat[at] = moved
        losses.append(_loss(model, batches))
    flat[at] = before
    return (losses[0] - losses[1]) / 2


def test_random_scores_are_the_same_each_time_and_do_not_depend_on_the_weights() -> None:
    weights, others = {"a": torch.randn(50, 40), "b": torch.randn(9)}, {"a": torch.zeros(50, 40), "b": torch.ones(9)}
    once, again, another = (
        {name: criterion_called("random", seed)(name, weight) for name, weight in which.items()}
        for which, seed in ((weights, 0), (others, 0), (weights, 1))
    )
    assert all(torch.equal(once[name], again[name]) for name in weights)
    assert not torch.equal(once["a"], another["a"])
    assert float(once["a"].mean()) == pytest.approx(0.5, abs=0.05)


def test_random_scores_of_a_layer_are_drawn_once() -> None:
    scores = criterion_called("random", 0)
    assert scores("a", torch.randn(5, 4)) is scores("a", torch.zeros(5, 4))
    assert scores("a", torch.zeros(5, 4)) is not scores("b", torch.zeros(5, 4))


def test_saliency_and_taylor_are_the_slopes_of_the_mean_loss(
    model: Classifier, weights: Weights, batches: Batches
) -> None:
    saliency = criteria.data_dependent_scores("saliency", model, weights, batches)
    taylor = criteria.data_dependent_scores("taylor", model, weights, batches)
    for layer, weight in weights.items():
        assert saliency[layer].shape == taylor[layer].shape == weight.shape
        for at in range(0, weight.numel(), EVERY):
            slope = abs(_slope(model, batches, weight, at, STEP)) / STEP
            assert float(saliency[layer].view(-1)[at]) == pytest.approx(slope, rel=1e-5, abs=1e-9)
            share = STEP * float(weight.detach().view(-1)[at])  # the weight is scaled, not shifted
            scaled = abs(_slope(model, batches, weight, at, share)) / STEP
            assert float(taylor[layer].view(-1)[at]) == pytest.approx(scaled, rel=1e-5, abs=1e-9)


def test_wanda_is_the_weight_times_the_norm_of_its_inputs(
    model: Classifier, weights: Weights, batches: Batches
) -> None:
    scores = criteria.data_dependent_scores("wanda", model, weights, batches)
    with torch.no_grad():
        inputs = [model.inputs(batch["images"])[0] for batch in batches]
    joined = {layer: torch.cat([of[layer] for of in inputs]).transpose(0, 1).flatten(1) for layer in weights}
    norms = {layer: torch.linalg.vector_norm(values, dim=1) for layer, values in joined.items()}
    size = {layer: weight.detach().abs() for layer, weight in weights.items()}
    first, second = norms["grouped.weight"][:2], norms["grouped.weight"][2:]  # inputs of outputs 0 to 2, and 3 to 5
    expected = {
        "plain.weight": size["plain.weight"] * norms["plain.weight"].view(1, 3, 1, 1),
        "grouped.weight": torch.cat(
            [size["grouped.weight"][:3] * first.view(1, 2, 1, 1), size["grouped.weight"][3:] * second.view(1, 2, 1, 1)]
        ),
        "linear.weight": size["linear.weight"] * norms["linear.weight"].view(1, 6),
        "transposed.weight": size["transposed.weight"] * norms["transposed.weight"].view(5, 1),
    }
    assert list(scores) == list(weights)
    for layer, score in scores.items():
        torch.testing.assert_close(score, expected[layer])


def test_an_input_that_is_always_zero_gives_its_weights_no_wanda_score(
    model: Classifier, weights: Weights, batches: Batches
) -> None:
    for batch in batches:
        batch["images"][:, 1] = 0
    scores = criteria.data_dependent_scores("wanda", model, weights, batches)["plain.weight"]
    assert not scores[:, 1].any()
    assert (scores[:, [0, 2]] > 0).all()


def test_a_weight_of_zero_scores_zero_under_taylor_and_wanda_but_not_under_saliency(
    model: Classifier, weights: Weights, batches: Batches
) -> None:
    with torch.no_grad():
        for weight in weights.values():
            weight.view(-1)[3] = 0
    for name in criteria.DATA_DEPENDENT:
        for score in criteria.data_dependent_scores(name, model, weights, batches).values():
            assert (float(score.view(-1)[3]) == 0) == (name != "saliency")
            assert (score.view(-1)[:3] > 0).all()


def _interrupted(batches: Batches) -> Iterator[dict[str, Tensor]]:
    yield batches[0]
    raise RuntimeError("stop")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", criteria.DATA_DEPENDENT)
def test_the_model_is_left_unchanged_even_after_an_error(
    model: Classifier, weights: Weights, batches: Batches, name: DataDependentName, training: bool
) -> None:
    model.train(training)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        scores = criteria.data_dependent_scores(name, model, weights, iter(batches))
    with pytest.raises(RuntimeError, match="stop"):
        criteria.data_dependent_scores(name, model, weights, _interrupted(batches))
    assert model.training == training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    again = criteria.data_dependent_scores(name, model, weights, batches)
    assert all(torch.equal(scores[layer], again[layer]) for layer in weights)
    assert not any(score.requires_grad for score in again.values())


def test_an_unknown_criterion_is_refused_with_the_known_ones(
    model: Classifier, weights: Weights, batches: Batches
) -> None:
    unknown: Any = "luck"
    with pytest.raises(UserError, match="no data-dependent criterion 'luck'; there are taylor, saliency, wanda$"):
        criteria.data_dependent_scores(unknown, model, weights, batches)
