from copy import deepcopy

import pytest
import torch
from conftest import write_task
from prunecast import collect, evaluation, tasks, training, zoo
from prunecast.pruning import structured
from prunecast.pruning.schedules import Schedule
from prunecast.retraining import Budget, Retraining
from tiny import TINY, task_frames

BUDGET = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
GRADUAL = Schedule(name="gradual", sparsity=0.7)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """The small model of the task `colours`, trained once."""
    folder = tmp_path_factory.mktemp("retraining")
    write_task(folder / "tasks" / "colours", task_frames())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNECAST_DATA", str(folder / "tasks"))
        patch.setenv("PRUNECAST_RUNS", str(folder / "runs"))
        patch.setattr(zoo, "registry", lambda: dict(TINY))
        tasks.load_task.cache_clear()
        return collect.trained("tiny", "small", 0)


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
    longer = work.recovered(subject.model, seed=0)
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
    same, again = (Retraining(subject, BUDGET).recovered(subject.model, seed=0) for _ in range(2))
    assert _equal(same, again)


def test_one_hot_targets_teach_what_the_labels_teach(subject):
    soft = Retraining(subject, _budget(distilled=0.0)).recovered(subject.model, seed=0)
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
    inputs = evaluation.batch_of(subject.examples, torch.arange(8))
    smaller = structured.remove(subject.model, structured.Removal(0.5, 0.5, 0, "magnitude"), inputs, None)
    with torch.no_grad():
        smaller.bert.pooler.dense.weight.zero_()  # it answers the same to everything
    damaged = deepcopy(smaller)
    after = Retraining(subject, _budget(epochs=8, examples=180)).recovered(smaller, seed=0)
    assert [weight.shape for weight in after.parameters()] == [weight.shape for weight in smaller.parameters()]
    assert evaluation.evaluate(smaller, subject.examples).accuracy == pytest.approx(1 / 3)
    assert evaluation.evaluate(after, subject.examples).accuracy > 0.9
    assert _equal(smaller, damaged)


def test_fewer_examples_are_the_first_ones(subject):
    few = Retraining(subject, _budget(examples=7))
    assert list(few.split.inputs) == list(subject.task.train.inputs[:7])
    assert few.targets.shape == (7, 3)
    assert len(Retraining(subject, _budget(examples=10_000)).split) == len(subject.task.train)


def test_compared_schedules_are_trained_once_and_read_back(subject):
    work = Retraining(subject, BUDGET)
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


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("examples", 0), ("batch_size", 0), ("learning_rate", 0), ("distilled", 1.1)]
)
def test_a_budget_that_trains_nothing_is_refused(field, value):
    with pytest.raises(ValueError, match=f"1 validation error for Budget\n{field}"):
        Budget(**BUDGET.model_dump() | {field: value})
