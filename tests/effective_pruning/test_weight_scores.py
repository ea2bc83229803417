import math

import pytest
import torch
from prunecast.effective_pruning import weight_scores
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models import zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.pruning import criteria
from torch import Tensor

CRITERIA = [*criteria.CRITERIA, *criteria.DATA_DEPENDENT]
NETWORK = zoo.ModelSpec(task="digits", architecture="fc2_100", learning_rate_schedule="constant", standardise=True)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"a": torch.nn.Parameter(torch.randn(3, 4)), "b": torch.nn.Parameter(torch.randn(5))}


def test_only_retained_weights_are_left_and_all_are_restored_even_after_an_error(weights: dict[str, Tensor]) -> None:
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    retained = {name: torch.arange(weight.numel()).view(weight.shape) % 3 > 0 for name, weight in weights.items()}
    with weight_scores.only(weights, retained):
        for name, weight in weights.items():
            assert torch.equal(weight != 0, retained[name])
            assert torch.equal(weight[retained[name]], before[name][retained[name]])
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    with pytest.raises(RuntimeError, match="stop"), weight_scores.only(weights, retained):
        weights["b"].data.fill_(7)
        raise RuntimeError("stop")
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    with pytest.raises(RuntimeError), weight_scores.only(weights, {"a": retained["a"], "b": retained["a"]}):
        pass
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())


def test_every_weight_includes_the_output_layer_which_is_not_prunable_otherwise() -> None:
    model, _ = zoo.build(NETWORK, zoo.task_of(NETWORK))
    whole, prunable = weight_scores.every_weight(model), prunable_weights(model, classes=10)
    assert [tuple(weight.shape) for weight in whole.values()] == [(100, 64), (10, 100)]
    assert [tuple(weight.shape) for weight in prunable.values()] == [(100, 64)]
    assert all(whole[name] is weight for name, weight in prunable.items())


def test_calibration_is_on_the_first_training_examples_in_their_order(
    subject: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_scores, "CALIBRATION_EXAMPLES", 100)
    batches = weight_scores.calibration_batches(subject)
    assert [len(batch["labels"]) for batch in batches] == [weight_scores.BATCH, 100 - weight_scores.BATCH]
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == subject.task.train.labels[:100].tolist()
    tokenizer = storage.load(subject.folder)[1]
    for batch, start in zip(batches, (0, weight_scores.BATCH), strict=True):
        texts = subject.task.train.inputs[start : start + len(batch["labels"])]
        assert torch.equal(batch["input_ids"], tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"])
        assert subject.model(**batch)["loss"].item() < math.log(3)


def test_an_unknown_criterion_is_refused_with_the_known_ones(subject: TrainedModel) -> None:
    with pytest.raises(UserError, match="no criterion 'luck'; there are magnitude, random, taylor, saliency, wanda"):
        weight_scores.weight_scores(["magnitude", "luck"], subject.model, subject.weights, list, 0)


def test_weights_are_scored_by_the_named_criteria(subject: TrainedModel) -> None:
    weights, calibration = subject.weights, weight_scores.calibration_batches(subject)
    scores = weight_scores.weight_scores(CRITERIA, subject.model, weights, lambda: calibration, 0)
    assert list(scores) == CRITERIA
    for name in criteria.DATA_DEPENDENT:
        alone = criteria.data_dependent_scores(name, subject.model, weights, calibration)
        assert all(torch.equal(scores[name][layer], alone[layer]) for layer in weights)
    other = weight_scores.weight_scores(["magnitude", "random"], subject.model, weights, list, 1)
    assert all(torch.equal(scores["magnitude"][layer], weights[layer].detach().abs()) for layer in weights)
    assert all(torch.equal(scores["magnitude"][layer], other["magnitude"][layer]) for layer in weights)
    assert not any(torch.equal(scores["random"][layer], other["random"][layer]) for layer in weights)
