import pytest
import torch
from prunecast.datasets import tasks
from prunecast.models import checkpoints, evaluation, zoo
from prunecast.models.evaluation import evaluate, prepare
from tiny import task_frames


def test_buckets_of_like_length_give_the_outcome_of_one_text_at_a_time(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    model, tokenizer = zoo.load(subject.folder)
    with torch.inference_mode():
        texts = task_frames()["validation"]["text"]
        logits = torch.stack([model(**tokenizer(text, return_tensors="pt"))["logits"][0] for text in texts])
    labels = torch.tensor(task_frames()["validation"]["label"].to_numpy(copy=True))
    found = evaluate(model, subject.examples)
    assert torch.equal(found.correct, logits.argmax(-1) == labels)
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels, reduction="none"), abs=1e-5)
    assert torch.equal(found.margin > 0, found.correct)


def test_some_examples_are_evaluated_in_the_order_asked_for(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    whole, rows = evaluate(subject.model, subject.examples), torch.tensor([70, 3, 4, 50])
    part = evaluate(subject.model, subject.examples, rows)
    assert torch.equal(part.correct, whole.correct[rows])
    assert part.margin == pytest.approx(whole.margin[rows], abs=1e-5)


def test_linear_layers_give_float32_answers_and_are_themselves_again_afterwards(tiny_models, monkeypatch):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    fast = evaluate(subject.model, subject.examples)
    assert not [layer for layer in subject.model.modules() if "forward" in vars(layer)]
    monkeypatch.setattr(evaluation, "_for_onednn", lambda layer: False)
    plain = evaluate(subject.model, subject.examples)
    assert torch.equal(fast.correct, plain.correct)
    assert fast.loss == pytest.approx(plain.loss, abs=1e-5)


def test_bfloat16_is_another_arithmetic_and_float32_the_default(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    single, half = (evaluate(subject.model, subject.examples, precision=kind) for kind in ("float32", "bfloat16"))
    assert not torch.equal(single.loss, half.loss)
    assert half.loss == pytest.approx(single.loss, abs=0.05)


def test_images_of_a_built_in_task_are_evaluated():
    task = tasks.load_task("digits")
    model, tokenizer = zoo.build(zoo.ModelSpec(task="digits", architecture="fc2"), task)
    found = evaluate(model.eval(), prepare(task.validation, tokenizer, 64))
    assert len(found.correct) == len(task.validation)
    assert 0 <= found.accuracy <= 0.5
