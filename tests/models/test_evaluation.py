import pytest
import torch
from prunecast.datasets import tasks
from prunecast.loading import storage
from prunecast.models import checkpoints, evaluation, zoo
from prunecast.models.evaluation import Precision, evaluate
from prunecast.models.inputs import prepare
from prunecast.models.zoo import ModelSpec
from tiny import task_frames


def test_batches_of_similar_length_give_the_outcome_of_one_text_at_a_time(tiny_models: dict[str, ModelSpec]) -> None:
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    model, tokenizer = storage.load(subject.folder)
    with torch.inference_mode():
        texts = task_frames()["validation"]["text"]
        logits = torch.stack([model(**tokenizer(text, return_tensors="pt"))["logits"][0] for text in texts])
    labels = torch.tensor(task_frames()["validation"]["label"].to_numpy(copy=True))
    outcome = evaluate(model, subject.examples)
    assert torch.equal(outcome.correct, logits.argmax(-1) == labels)
    assert outcome.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels, reduction="none"), abs=1e-5)
    assert torch.equal(outcome.margin > 0, outcome.correct)


@pytest.mark.slow
def test_some_examples_are_evaluated_in_the_given_order(tiny_models: dict[str, ModelSpec]) -> None:
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    whole, rows = evaluate(subject.model, subject.examples), torch.tensor([70, 3, 4, 50])
    part = evaluate(subject.model, subject.examples, rows)
    assert torch.equal(part.correct, whole.correct[rows])
    assert part.margin == pytest.approx(whole.margin[rows], abs=1e-5)


@pytest.mark.slow
def test_linear_layers_compute_in_float32_and_are_restored_afterwards(
    tiny_models: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    fast = evaluate(subject.model, subject.examples)
    assert not [layer for layer in subject.model.modules() if "forward" in vars(layer)]
    monkeypatch.setattr(evaluation, "_for_onednn", lambda layer: False)
    plain = evaluate(subject.model, subject.examples)
    assert torch.equal(fast.correct, plain.correct)
    assert fast.loss == pytest.approx(plain.loss, abs=1e-5)


def test_bfloat16_is_another_arithmetic_and_float32_the_default(tiny_models: dict[str, ModelSpec]) -> None:
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    kinds: tuple[Precision, ...] = ("float32", "bfloat16")
    single, half = (evaluate(subject.model, subject.examples, precision=kind) for kind in kinds)
    assert not torch.equal(single.loss, half.loss)
    assert torch.equal(single.loss, evaluate(subject.model, subject.examples).loss)
    assert half.loss == pytest.approx(single.loss, abs=0.05)


def test_images_of_a_built_in_task_are_evaluated() -> None:
    task = tasks.load_task("digits")
    model, tokenizer = zoo.build(zoo.ModelSpec(task="digits", architecture="fc2"), task)
    outcome = evaluate(model.eval(), prepare(task.validation, tokenizer, 64))
    assert len(outcome.correct) == len(task.validation)
    assert 0 <= outcome.accuracy <= 0.5
