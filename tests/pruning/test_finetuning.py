from copy import deepcopy

import pytest
import torch
from prunecast.errors import UserError
from prunecast.models import evaluation, training, zoo
from prunecast.models.prunable import prunable_weights
from prunecast.pruning.finetuning import Budget, Retraining
from prunecast.pruning.schedules import SCHEDULES, Schedule
from prunecast.pruning.structured import Removal

BUDGET = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
GRADUAL = Schedule(name="gradual", sparsity=0.7)
HALF = Removal(0.5, 0.5, 0, "magnitude")


def _budget(**changed):
    return BUDGET.model_copy(update=changed)


def _equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def _answers(subject):
    split = subject.task.train.first(BUDGET.examples)
    examples = evaluation.prepare(split, zoo.load(subject.folder)[1], subject.spec.max_length)
    return evaluation.logits(subject.model, examples, torch.arange(len(examples))).softmax(-1).float()


def test_the_dense_model_is_left_as_it_was(subject):
    before, work = deepcopy(subject.model), Retraining(subject, BUDGET)
    masked = work.scheduled(GRADUAL, seed=0)
    longer = work.recovered(seed=0)
    assert _equal(subject.model, before)
    assert all(weight.grad is None for weight in subject.model.parameters())
    assert not subject.model.training
    assert not _equal(masked, before)
    assert not _equal(longer, before)


@pytest.mark.parametrize("distilled", [1.0, 0.25])
def test_distilled_targets_are_the_probabilities_of_the_dense_model_beside_the_labels(subject, distilled):
    targets = Retraining(subject, _budget(distilled=distilled)).targets
    labels = torch.nn.functional.one_hot(torch.from_numpy(subject.task.train.labels[: BUDGET.examples]), 3)
    torch.testing.assert_close(targets, distilled * _answers(subject) + (1 - distilled) * labels)
    torch.testing.assert_close(targets.sum(1), torch.ones(BUDGET.examples))
    assert not torch.equal(targets, labels.float())


def test_targets_that_are_not_distilled_are_the_labels(subject):
    targets = Retraining(subject, _budget(distilled=0.0)).targets
    assert targets.argmax(1).tolist() == subject.task.train.labels[: BUDGET.examples].tolist()
    assert torch.equal(targets.amax(1), targets.sum(1))
    assert torch.equal(targets.sum(1), torch.ones(BUDGET.examples))


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(subject):
    one, two = (Retraining(subject, BUDGET).scheduled(GRADUAL, seed=0) for _ in range(2))
    assert _equal(one, two)
    assert not _equal(one, Retraining(subject, BUDGET).scheduled(GRADUAL, seed=1))
    same, again = (Retraining(subject, BUDGET).recovered(seed=0) for _ in range(2))
    assert _equal(same, again)


def test_one_hot_targets_teach_what_the_labels_teach(subject):
    soft = Retraining(subject, _budget(distilled=0.0)).recovered(seed=0)
    hard, split = deepcopy(subject.model), subject.task.train.first(BUDGET.examples)
    spec = subject.spec.model_copy(update={"epochs": 1.0, "learning_rate": BUDGET.learning_rate})
    training.train(hard, zoo.load(subject.folder)[1], split, spec, 0, subject.name)
    pairs = list(zip(soft.parameters(), hard.parameters(), strict=True))
    moved = [
        float((b - a).detach().abs().max()) for a, b in zip(subject.model.parameters(), hard.parameters(), strict=True)
    ]
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) < max(moved) / 20


def test_targets_are_learned_in_place_of_the_labels(subject):
    model, split = deepcopy(subject.model), subject.task.train
    others = torch.nn.functional.one_hot((torch.from_numpy(split.labels) + 1) % 3, 3).float()
    spec = subject.spec.model_copy(update={"epochs": 5.0})
    training.train(model, zoo.load(subject.folder)[1], split, spec, 0, "others", others)
    answers = evaluation.logits(model, subject.examples, torch.arange(len(subject.examples))).argmax(-1)
    assert float((answers == (subject.examples.labels + 1) % 3).double().mean()) > 0.9


def test_a_smaller_model_that_lost_its_skill_finds_it_again_in_its_own_shape(subject):
    work = Retraining(subject, _budget(epochs=8, examples=180), HALF)
    work.start.bert.pooler.dense.weight.data.zero_()  # it answers the same to everything
    damaged = deepcopy(work.start)
    after = work.recovered(seed=0)
    assert [weight.shape for weight in after.parameters()] == [weight.shape for weight in damaged.parameters()]
    assert after.bert.encoder.layer[0].intermediate.dense.out_features == 128
    assert evaluation.evaluate(damaged, subject.examples).accuracy == pytest.approx(1 / 3)
    assert evaluation.evaluate(after, subject.examples).accuracy > 0.9
    assert _equal(work.start, damaged)


def test_fewer_examples_are_the_first_ones(subject):
    few = Retraining(subject, _budget(examples=7))
    assert list(few.split.inputs) == list(subject.task.train.inputs[:7])
    assert few.targets.shape == (7, 3)
    assert len(Retraining(subject, _budget(examples=10_000)).split) == len(subject.task.train)


def test_compared_schedules_are_trained_once_and_read_back(own_subject):
    subject, work = own_subject, Retraining(own_subject, BUDGET)
    names, sparsities = ("dense", "none", "one_shot", "iterative", "gradual", "regrow"), (0.5, 0.9)
    found = work.compared(names, sparsities, "layer", (0,))
    assert found["schedule"].value_counts().to_dict() == {name: 1 if name == "dense" else 2 for name in names}
    assert not found.duplicated(["schedule", "sparsity", "seed"]).any()
    dense = evaluation.evaluate(subject.model, subject.examples).accuracy
    assert set(found["dense_accuracy"]) == {dense}
    kept = {path: path.stat().st_mtime_ns for path in (subject.folder / "schedules").iterdir()}
    assert len(kept) == len(found)
    assert Retraining(subject, BUDGET).compared(names, sparsities, "layer", (0,)).equals(found)
    assert {path: path.stat().st_mtime_ns for path in (subject.folder / "schedules").iterdir()} == kept
    longer = Retraining(subject, _budget(epochs=2)).compared(["one_shot"], (0.9,), "layer", (0,))
    assert longer["epochs"].to_list() == [2]
    assert len(list((subject.folder / "schedules").iterdir())) == len(kept) + 1


@pytest.fixture
def evaluated(monkeypatch, own_subject):
    """The models that were evaluated, but for the dense one, in that order."""
    models, real = [], evaluation.logits

    def watched(model, *rest, **options):
        if model is not own_subject.model:
            models.append(model)
        return real(model, *rest, **options)

    monkeypatch.setattr(evaluation, "logits", watched)
    return models


@pytest.mark.parametrize("sparsity", [0.617, 0.9])
def test_after_a_removal_the_sparsity_asked_for_counts_what_was_removed(own_subject, evaluated, sparsity):
    names = ("none", *SCHEDULES)
    found = Retraining(own_subject, BUDGET, HALF).compared(names, (sparsity,), "global", (0,))
    total = sum(weight.numel() for weight in own_subject.weights.values())
    assert found["schedule"].to_list() == list(names)
    assert set(found["sparsity"]) == {sparsity}
    assert set(found["removed"]) == {str(HALF)}
    assert len(evaluated) == len(names)
    for model in evaluated:
        weights = prunable_weights(model, 3).values()
        assert sum(weight.numel() for weight in weights) < total
        assert sum(int(weight.count_nonzero()) for weight in weights) == round((1 - sparsity) * total)


def test_what_was_removed_tells_rows_apart(own_subject):
    whole, half = (Retraining(own_subject, BUDGET, removal) for removal in (Removal(0, 0, 0, "magnitude"), HALF))
    rows = [work.compared(["none"], (0.8,), "global", (0,)) for work in (whole, half)]
    assert [row["removed"].item() for row in rows] == ["nothing", "heads 0.5, neurons 0.5, layers 0, by magnitude"]
    assert len(list((own_subject.folder / "schedules").iterdir())) == 2
    assert half.compared(["none"], (0.8,), "global", (0,)).equals(rows[1])


@pytest.mark.parametrize("name", ["none", "gradual"])
def test_a_sparsity_below_what_the_removal_takes_is_refused_in_one_sentence(own_subject, name):
    work = Retraining(own_subject, BUDGET, HALF)
    with pytest.raises(
        UserError, match="layers 0, by magnitude leaves 53.8% of the weights, less than the 60.0% asked for"
    ) as refusal:
        work.compared([name], (0.4,), "global", (0,))
    assert "\n" not in str(refusal.value)
    left, whole = (prunable_weights(model, 3).values() for model in (work.start, own_subject.model))
    taken = 1 - sum(weight.numel() for weight in left) / sum(weight.numel() for weight in whole)
    exactly = work.compared(["none"], (taken,), "global", (0,))  # the removal alone
    answers = evaluation.evaluate(work.start, own_subject.examples)
    assert exactly["accuracy"].item() == answers.accuracy


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"sparsities": [82]}, "sparsity 82 is not a share"),
        ({"sparsities": [1.0]}, "sparsity 1.0 is not a share"),
        ({"scope": "Global"}, "there is no scope 'Global'; there are global, layer"),
        ({"names": ["none", "lottery"]}, "there is no schedule 'lottery'"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_anything_is_trained(own_subject, changed, complaint):
    wanted = {"names": ["none", "one_shot"], "sparsities": [0.5], "scope": "global", "seeds": [0]} | changed
    with pytest.raises(UserError, match=complaint):
        Retraining(own_subject, BUDGET).compared(**wanted)
    assert not (own_subject.folder / "schedules").exists()


def test_the_rounds_of_the_iterative_schedule_see_all_examples_once(subject, monkeypatch):
    seen, train = [], training.train

    def watched(model, tokenizer, split, *rest):
        seen.append(list(split.inputs))
        train(model, tokenizer, split, *rest)

    monkeypatch.setattr(training, "train", watched)
    Retraining(subject, BUDGET).scheduled(Schedule(name="iterative", sparsity=0.7), seed=0)
    assert [len(part) for part in seen] == [32, 32, 32]
    assert sum(seen, []) == list(subject.task.train.inputs[: BUDGET.examples])


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("examples", 0), ("batch_size", 0), ("learning_rate", 0), ("distilled", 1.1)]
)
def test_a_budget_that_trains_nothing_is_refused(field, value):
    with pytest.raises(ValueError, match=f"1 validation error for Budget\n{field}"):
        Budget(**BUDGET.model_dump() | {field: value})
