from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from prunecast.datasets.tasks import Split
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models import evaluation, inputs, training
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.pruning import structured
from prunecast.pruning.finetuning import Budget, Retraining
from prunecast.pruning.schedules import SCHEDULES, Schedule
from prunecast.pruning.structured import Removal
from torch import Tensor, nn
from torch.nn import functional

BUDGET = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
GRADUAL = Schedule(name="gradual", sparsity=0.7)
HALF = Removal(0.5, 0.5, 0, "magnitude")


def _budget(**changed: float) -> Budget:
    return Budget(**BUDGET.model_dump() | changed)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def _one_hot(classes: Tensor) -> Tensor:
    return functional.one_hot(classes, 3).float()


def _predictions(subject: TrainedModel) -> Tensor:
    split = subject.task.train.first(BUDGET.examples)
    examples = inputs.prepare(split, storage.load(subject.folder)[1], subject.spec.max_length)
    logits: Tensor = evaluation.logits(subject.model, examples, torch.arange(len(examples)))
    return logits.softmax(-1).float()


def test_the_dense_model_is_left_unchanged(subject: TrainedModel) -> None:
    before, work = deepcopy(subject.model), Retraining(subject, BUDGET)
    masked = work.scheduled(GRADUAL, seed=0)
    longer = work.recovered(seed=0)
    assert _equal(subject.model, before)
    assert all(weight.grad is None for weight in subject.model.parameters())
    assert not subject.model.training
    assert not _equal(masked, before)
    assert not _equal(longer, before)


@pytest.mark.parametrize("distilled", [1.0, 0.25])
def test_distilled_targets_are_the_probabilities_of_the_dense_model_beside_the_labels(
    subject: TrainedModel, distilled: float
) -> None:
    targets = Retraining(subject, _budget(distilled=distilled)).targets
    labels = _one_hot(torch.from_numpy(subject.task.train.labels[: BUDGET.examples]))
    torch.testing.assert_close(targets, distilled * _predictions(subject) + (1 - distilled) * labels)
    torch.testing.assert_close(targets.sum(1), torch.ones(BUDGET.examples))
    assert not torch.equal(targets, labels)


def test_targets_that_are_not_distilled_are_the_labels(subject: TrainedModel) -> None:
    targets = Retraining(subject, _budget(distilled=0.0)).targets
    assert targets.argmax(1).tolist() == subject.task.train.labels[: BUDGET.examples].tolist()
    assert torch.equal(targets.amax(1), targets.sum(1))
    assert torch.equal(targets.sum(1), torch.ones(BUDGET.examples))


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(subject: TrainedModel) -> None:
    one, two = (Retraining(subject, BUDGET).scheduled(GRADUAL, seed=0) for _ in range(2))
    assert _equal(one, two)
    assert not _equal(one, Retraining(subject, BUDGET).scheduled(GRADUAL, seed=1))
    same, again = (Retraining(subject, BUDGET).recovered(seed=0) for _ in range(2))
    assert _equal(same, again)


def test_one_hot_targets_train_as_the_labels_do(subject: TrainedModel) -> None:
    soft = Retraining(subject, _budget(distilled=0.0)).recovered(seed=0)
    hard, split = deepcopy(subject.model), subject.task.train.first(BUDGET.examples)
    spec = subject.spec.model_copy(update={"epochs": 1.0, "learning_rate": BUDGET.learning_rate})
    training.train(hard, storage.load(subject.folder)[1], split, spec, 0, subject.name)
    pairs = list(zip(soft.parameters(), hard.parameters(), strict=True))
    moved = [
        float((b - a).detach().abs().max()) for a, b in zip(subject.model.parameters(), hard.parameters(), strict=True)
    ]
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) < max(moved) / 20


def test_targets_are_learned_in_place_of_the_labels(subject: TrainedModel) -> None:
    model, split = deepcopy(subject.model), subject.task.train
    others = _one_hot((torch.from_numpy(split.labels) + 1) % 3)
    spec = subject.spec.model_copy(update={"epochs": 5.0})
    training.train(model, storage.load(subject.folder)[1], split, spec, 0, "others", others)
    predicted: Tensor = evaluation.logits(model, subject.examples, torch.arange(len(subject.examples))).argmax(-1)
    assert float((predicted == (subject.examples.labels + 1) % 3).double().mean()) > 0.9


def test_a_smaller_model_that_lost_its_accuracy_recovers_it_in_its_own_shape(subject: TrainedModel) -> None:
    work = Retraining(subject, _budget(epochs=8, examples=180), HALF)
    start: Any = work.start
    start.bert.pooler.dense.weight.data.zero_()  # it predicts the same class for everything
    damaged = deepcopy(work.start)
    after: Any = work.recovered(seed=0)
    assert [weight.shape for weight in after.parameters()] == [weight.shape for weight in damaged.parameters()]
    assert after.bert.encoder.layer[0].intermediate.dense.out_features == 128
    assert evaluation.evaluate(damaged, subject.examples).accuracy == pytest.approx(1 / 3)
    assert evaluation.evaluate(after, subject.examples).accuracy > 0.9
    assert _equal(work.start, damaged)


def test_fewer_examples_are_the_first_ones(subject: TrainedModel) -> None:
    few = Retraining(subject, _budget(examples=7))
    assert list(few.split.inputs) == list(subject.task.train.inputs[:7])
    assert few.targets.shape == (7, 3)
    assert len(Retraining(subject, _budget(examples=10_000)).split) == len(subject.task.train)


@pytest.mark.slow
def test_compared_schedules_are_trained_once_and_read_back(own_subject: TrainedModel) -> None:
    subject, work = own_subject, Retraining(own_subject, BUDGET)
    names, sparsities = ("dense", "none", "one_shot", "iterative", "gradual", "regrow"), (0.5, 0.9)
    rows = work.compared(names, sparsities, "layer", (0,))
    assert rows["schedule"].value_counts().to_dict() == {name: 1 if name == "dense" else 2 for name in names}
    assert not rows.duplicated(["schedule", "sparsity", "seed"]).any()
    dense = evaluation.evaluate(subject.model, subject.examples).accuracy
    assert set(rows["dense_accuracy"]) == {dense}
    times = {path: path.stat().st_mtime_ns for path in (subject.folder / "schedules").iterdir()}
    assert len(times) == len(rows)
    assert Retraining(subject, BUDGET).compared(names, sparsities, "layer", (0,)).equals(rows)
    assert {path: path.stat().st_mtime_ns for path in (subject.folder / "schedules").iterdir()} == times
    longer = Retraining(subject, _budget(epochs=2)).compared(["one_shot"], (0.9,), "layer", (0,))
    assert longer["epochs"].to_list() == [2]
    assert len(list((subject.folder / "schedules").iterdir())) == len(times) + 1


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch, own_subject: TrainedModel) -> list[nn.Module]:
    """The models that were evaluated, except the dense one, in that order."""
    models: list[nn.Module] = []
    real = evaluation.logits

    def logits(model: nn.Module, *rest: Any, **options: Any) -> Tensor:
        if model is not own_subject.model:
            models.append(model)
        result: Tensor = real(model, *rest, **options)
        return result

    monkeypatch.setattr(evaluation, "logits", logits)
    return models


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.617, 0.9])
def test_after_a_removal_the_sparsity_counts_what_was_removed(
    own_subject: TrainedModel, evaluated: list[nn.Module], sparsity: float
) -> None:
    names = ("none", *SCHEDULES)
    rows = Retraining(own_subject, BUDGET, HALF).compared(names, (sparsity,), "global", (0,))
    total = sum(weight.numel() for weight in own_subject.weights.values())
    assert rows["schedule"].to_list() == list(names)
    assert set(rows["sparsity"]) == {sparsity}
    assert set(rows["removed"]) == {str(HALF)}
    assert len(evaluated) == len(names)
    for model in evaluated:
        weights = prunable_weights(model, 3).values()
        assert sum(weight.numel() for weight in weights) < total
        assert sum(int(weight.count_nonzero()) for weight in weights) == round((1 - sparsity) * total)


def test_rows_of_another_removal_are_other_rows(own_subject: TrainedModel) -> None:
    whole, half = (Retraining(own_subject, BUDGET, removal) for removal in (Removal(0, 0, 0, "magnitude"), HALF))
    rows = [work.compared(["none"], (0.8,), "global", (0,)) for work in (whole, half)]
    assert [row["removed"].item() for row in rows] == ["nothing", "heads 0.5, neurons 0.5, layers 0, by magnitude"]
    assert len(list((own_subject.folder / "schedules").iterdir())) == 2
    assert half.compared(["none"], (0.8,), "global", (0,)).equals(rows[1])


def test_the_layers_that_stay_are_chosen_once(own_subject: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    config = deepcopy(own_subject.model.config)
    config.num_hidden_layers = 3
    deeper = replace(own_subject, model=type(own_subject.model)(config).eval())
    removal, before = Removal(0.0, 0.5, 1, "magnitude"), deepcopy(deeper.model)
    chosen = Retraining(deeper, BUDGET, removal).start
    assert _equal(deeper.model, before)
    monkeypatch.delattr(structured, "_log_probabilities")  # nothing is evaluated any more
    assert _equal(Retraining(deeper, BUDGET, removal).start, chosen)


@pytest.mark.parametrize("name", ["none", "gradual"])
def test_a_sparsity_below_that_of_the_removal_is_refused_in_one_sentence(own_subject: TrainedModel, name: str) -> None:
    work = Retraining(own_subject, BUDGET, HALF)
    sentence = (
        "layers 0, by magnitude leaves 53.8% of the weights, less than the 60.0% that sparsity 0.4 keeps; "
        "take a larger sparsity or remove less$"
    )
    with pytest.raises(UserError, match=sentence) as refusal:
        work.compared([name], (0.4,), "global", (0,))
    assert "\n" not in str(refusal.value)
    left, whole = (prunable_weights(model, 3).values() for model in (work.start, own_subject.model))
    removed = 1 - sum(weight.numel() for weight in left) / sum(weight.numel() for weight in whole)
    exactly = work.compared(["none"], (removed,), "global", (0,))  # the removal alone
    outcome = evaluation.evaluate(work.start, own_subject.examples)
    assert exactly["accuracy"].item() == outcome.accuracy


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"sparsities": [82]}, "sparsity 82 is not a share"),
        ({"sparsities": [1.0]}, "sparsity 1.0 is not a share"),
        ({"scope": "Global"}, "there is no scope 'Global'; there are global, layer"),
        ({"names": ["none", "lottery"]}, "there is no schedule 'lottery'; there are none, dense, one_shot, iterative"),
    ],
)
def test_an_invalid_comparison_is_refused_before_anything_is_trained(
    own_subject: TrainedModel, changed: dict[str, Any], complaint: str
) -> None:
    valid: dict[str, Any] = {"names": ["none", "one_shot"], "sparsities": [0.5], "scope": "global", "seeds": [0]}
    with pytest.raises(UserError, match=complaint):
        Retraining(own_subject, BUDGET).compared(**valid | changed)
    assert not (own_subject.folder / "schedules").exists()


def test_the_rounds_of_the_iterative_schedule_train_on_all_examples_once(
    subject: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[list[Any]] = []
    real = training.train

    def train(model: nn.Module, tokenizer: Any, split: Split, *rest: Any) -> None:
        parts.append(list(split.inputs))
        real(model, tokenizer, split, *rest)

    monkeypatch.setattr(training, "train", train)
    Retraining(subject, BUDGET).scheduled(Schedule(name="iterative", sparsity=0.7), seed=0)
    assert [len(part) for part in parts] == [32, 32, 32]
    assert list(chain.from_iterable(parts)) == list(subject.task.train.inputs[: BUDGET.examples])


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("examples", 0), ("batch_size", 0), ("learning_rate", 0), ("distilled", 1.1)]
)
def test_a_budget_that_trains_nothing_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"1 validation error for Budget\n{field}"):
        Budget(**BUDGET.model_dump() | {field: value})
