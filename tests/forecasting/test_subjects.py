from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_device import NAME, fake_device
from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.forecasting.subjects import Subject, open_subject
from prunecast.loading import storage
from prunecast.models import zoo
from prunecast.models.evaluation import evaluate
from prunecast.models.inputs import device_of
from prunecast.sweeps import proxies
from small_texts import EOS, PAD, SIZES, TOKENS, alone, bert, saved, spread, task_of, texts, tokenizer

import transformers  # isort: skip

LINES = texts(60)
GPT2 = {"vocab_size": TOKENS, "n_positions": 160, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
BART = {
    **{"vocab_size": TOKENS, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 160},
    **{"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": EOS, "decoder_start_token_id": EOS, "init_std": 0.2},
}
T5 = {
    **{"vocab_size": TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4},
    **{"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": PAD},
}


def _built(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(num_labels=3, **settings)
    return getattr(transformers, f"{name}ForSequenceClassification")(config).eval()


def _head(model: Any) -> Any:
    return [module for module in model.modules() if getattr(module, "out_features", 0) == model.config.num_labels][-1]


def _opened(folder: Path, model: Any, its_tokenizer: Any, lines: list[Any] = LINES, **options: Any) -> Subject:
    """A checkpoint whose labels are what plain torch answers to each text alone, opened."""
    spread(model, _head(model), its_tokenizer, lines)
    labels = alone(model, its_tokenizer, lines).argmax(1)
    assert len(set(labels.tolist())) > 1
    return open_subject(saved(folder, model, its_tokenizer), task_of(lines, labels), **options)


def _agrees(subject: Subject, model: Any, its_tokenizer: Any, lines: list[Any] = LINES) -> bool:
    return torch.allclose(subject.answers.float(), alone(model, its_tokenizer, lines), atol=1e-4)


@pytest.mark.parametrize(
    ("of_model", "of_tokenizer", "side"),
    [
        (EOS, None, "right"),
        (EOS, "[PAD]", "left"),
        (PAD, "[PAD]", "right"),
        (None, "[PAD]", "left"),
        (None, None, "right"),
    ],
)
def test_a_decoder_answers_as_to_each_text_alone_wherever_its_padding_token_is_named(
    of_model: int | None, of_tokenizer: str | None, side: str, tmp_path: Path
) -> None:
    model = _built("GPT2", **GPT2, pad_token_id=of_model, bos_token_id=EOS, eos_token_id=EOS)
    settings = {"pad_token": of_tokenizer} if of_tokenizer else {}
    its_tokenizer = tokenizer("$A", padding_side=side, **settings)
    subject = _opened(tmp_path, model, its_tokenizer)
    assert subject.dense_accuracy == 1
    assert _agrees(subject, model, its_tokenizer) or of_model is None
    storage.save(subject.model.model, subject.processor, tmp_path / "again")
    again, its = storage.load(tmp_path / "again")
    assert again.config.pad_token_id == of_model
    assert its.pad_token == of_tokenizer


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("FNet", SIZES),  # without an attention mask
        ("ConvBert", SIZES | {"embedding_size": 32}),  # convolutions reach into the padding
        ("XLNet", {"vocab_size": TOKENS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "pad_token_id": PAD}),
    ],
)
def test_an_architecture_that_padding_disturbs_gets_texts_of_equal_length(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {key: value for key, value in settings.items() if name != "FNet" or key != "num_attention_heads"}
    model, its_tokenizer = _built(name, **settings), tokenizer(pad_token="[PAD]")
    subject = _opened(tmp_path, model, its_tokenizer)
    assert _agrees(subject, model, its_tokenizer)
    assert any("only texts of equal length" in note for note in subject.notes)


@pytest.mark.parametrize(("name", "settings"), [("T5", T5), ("Bart", BART)])
def test_texts_with_end_tokens_inside_are_answered_at_the_last(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    lines = ["w1 </s> w2 w3", "w5 w6 </s> w7 </s> w8", *texts(40)]
    model, its_tokenizer = _built(name, **settings), tokenizer("$A </s>", pad_token="[PAD]")
    subject = _opened(tmp_path, model, its_tokenizer, lines)
    assert _agrees(subject, model, its_tokenizer, lines)
    assert not any("equal length" in note for note in subject.notes)
    without_end = saved(tmp_path, model, tokenizer("$A", pad_token="[PAD]"))
    with pytest.raises(UserError, match=r"fails on a text of \d+ tokens \(ValueError: .*<eos>"):
        open_subject(without_end, subject.model.task)


def test_pairs_of_texts_are_answered_with_the_types_of_their_tokens(tmp_path: Path) -> None:
    lines = list(zip(texts(40), texts(40, seed=1), strict=True))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    model, its_tokenizer = bert(), tokenizer(pad_token="[PAD]", model_input_names=names)
    subject = _opened(tmp_path, model, its_tokenizer, lines)
    assert _agrees(subject, model, its_tokenizer, lines)
    with torch.no_grad():
        model.bert.embeddings.token_type_embeddings.weight.zero_()
    assert not _agrees(subject, model, its_tokenizer, lines)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (lambda: bert(max_position_embeddings=12), 12),
        (lambda: _built("Roberta", **SIZES | {"max_position_embeddings": 14, "pad_token_id": 1}), 12),
        (lambda: _built("GPT2", **GPT2 | {"n_positions": 12}, pad_token_id=PAD), 12),
        (lambda: _built("XLM", vocab_size=TOKENS, emb_dim=32, n_heads=4, n_layers=1, max_position_embeddings=12), 12),
        (lambda: _built("OPT", vocab_size=TOKENS, hidden_size=32, ffn_dim=48, num_hidden_layers=1,
                        num_attention_heads=4, max_position_embeddings=12, word_embed_proj_dim=32), 12),
        (lambda: _built("T5", **T5), 30),  # by relative positions, to the limit that is asked for
    ],
    ids=["BERT", "RoBERTa", "GPT-2", "XLM", "OPT", "T5"],
)  # fmt: skip
def test_texts_are_cut_at_what_the_model_takes(model: Callable[[], Any], most: int, tmp_path: Path) -> None:
    lines = [*texts(20, 3, 8), *texts(5, 40, 60)]
    built, its_tokenizer = model(), tokenizer("$A </s>", pad_token="[PAD]")
    spread(built, _head(built), its_tokenizer, lines, max_length=most)
    labels = alone(built, its_tokenizer, lines, max_length=most).argmax(1)
    subject = open_subject(saved(tmp_path, built, its_tokenizer), task_of(lines, labels), max_length=30)
    assert subject.dense_accuracy == 1
    assert f"5 of 25 texts were cut off after {most} tokens" in subject.notes


def test_the_tokenizer_s_limit_counts_too_and_a_model_from_scratch_takes_long_texts(
    task_folder: Path, tmp_path: Path
) -> None:
    line = texts(1, 300, 300)[0]
    short = saved(tmp_path / "short", bert(), tokenizer(model_max_length=7, pad_token="[PAD]"))
    subject = open_subject(short, task_of([*LINES, line, line], [0] * 62))
    assert subject.model.examples.inputs.shape[1] == 7
    for architecture in ("bert", "roberta"):
        spec = zoo.ModelSpec(task="colours", architecture=architecture, hidden=16, heads=2)
        storage.save(*zoo.build(spec, zoo.task_of(spec)), tmp_path / architecture)
        subject = open_subject(str(tmp_path / architecture), task_of([line, "the red"], [0, 1]))
        assert subject.model.examples.inputs.shape[1] == 64


def _six(folder: Path, names: tuple[str, ...] = ()) -> tuple[str, np.ndarray]:
    model, its_tokenizer = bert(6), tokenizer(pad_token="[PAD]")
    spread(model, _head(model), its_tokenizer, LINES)
    if names:
        model.config.id2label, model.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    return saved(folder, model, its_tokenizer), alone(model, its_tokenizer, LINES).argmax(1).numpy()


NAMES = ("Sad", "glad", "mad", "bad", "odd", "even")
ORDER = np.array([3, 0, 1, 2, 5, 4])  # of the task: its class i is the checkpoint's class ORDER[i]


def test_classes_are_matched_by_name_and_stay_so_after_saving(tmp_path: Path) -> None:
    checkpoint, answers = _six(tmp_path / "six", NAMES)
    given = task_of(LINES, ORDER.argsort()[answers], [f" {NAMES[index].upper()}" for index in ORDER])
    subject = open_subject(checkpoint, given)
    assert subject.dense_accuracy == 1
    assert subject.another_order == ""
    assert [name.strip().lower() for name in subject.model.task.label_names] == [name.lower() for name in NAMES]
    assert subject.model.task.train.labels[0] == answers[0]
    assert any("by name, " in note for note in subject.notes)
    storage.save(subject.model.model, subject.processor, tmp_path / "again")
    assert open_subject(str(tmp_path / "again"), given).dense_accuracy == 1
    same = open_subject(checkpoint, task_of(LINES, answers, NAMES))
    assert same.dense_accuracy == 1
    assert any("matched with those of the task by name" in note for note in same.notes)


@pytest.mark.parametrize("of_task", [NAMES, ("0", "1", "2", "3", "4", "5")])
def test_an_order_that_cannot_be_matched_is_assumed_and_a_better_one_is_named(
    of_task: tuple[str, ...], tmp_path: Path
) -> None:
    checkpoint, answers = _six(tmp_path / "six")
    subject = open_subject(checkpoint, task_of(LINES, ORDER.argsort()[answers], of_task))
    assert any("the order of the classes was assumed" in note for note in subject.notes)
    assert subject.dense_accuracy == (ORDER.argsort()[answers] == answers).mean()
    assert "1.000 if " in subject.another_order
    assert f"{of_task[1]} is answered as {of_task[0]}" in subject.another_order
    right = open_subject(checkpoint, task_of(LINES, answers, of_task))
    assert right.another_order == ""
    chance = np.random.default_rng(0).integers(0, 6, len(LINES))
    assert open_subject(checkpoint, task_of(LINES, chance, of_task)).another_order == ""


def test_a_few_examples_of_one_s_own_may_lack_some_classes(tmp_path: Path) -> None:
    checkpoint, answers = _six(tmp_path / "six", NAMES)
    rows = np.flatnonzero(np.isin(answers, (1, 3)))
    lines = [LINES[row] for row in rows]
    by_name = task_of(lines, (answers[rows] == 1).astype(int), ("bad", "glad"))
    subject = open_subject(checkpoint, replace(by_name, source="file"))
    assert subject.dense_accuracy == 1
    assert subject.model.task.label_names == NAMES
    assert "4 of the 6 classes of the checkpoint have no examples" in subject.notes
    low = np.flatnonzero(answers < 4)
    numbers = task_of([LINES[row] for row in low], answers[low], ("0", "1", "2", "3"))
    assert open_subject(checkpoint, replace(numbers, source="file")).dense_accuracy == 1
    with pytest.raises(UserError, match="has 6 classes, but task 'answers' has 4"):
        open_subject(checkpoint, numbers)


def test_other_numbers_of_classes_and_other_kinds_of_classifiers_are_refused(tmp_path: Path) -> None:
    two = task_of(LINES, [0, 1] * 30, ("a", "b"))
    checkpoint, _ = _six(tmp_path / "six")
    with pytest.raises(UserError, match="checkpoint 'six' has 6 classes, but task 'answers' has 2"):
        open_subject(checkpoint, two)
    with pytest.raises(UserError, match="has one output, as a regression has"):
        open_subject(saved(tmp_path / "one", bert(1), tokenizer()), two)
    several = saved(tmp_path / "several", bert(2, problem_type="multi_label_classification"), tokenizer())
    with pytest.raises(UserError, match="several classes"):
        open_subject(several, two)
    images = Task("i", "image", "folder", ("a", "b"), *[Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)] * 2)
    with pytest.raises(UserError, match="does not classify images"):
        open_subject(checkpoint, images)
    own, _ = zoo.build(zoo.ModelSpec(task="i", architecture="fc2"), images)
    storage.save(own, None, tmp_path / "own")
    large = replace(images, validation=Split(np.zeros((4, 9, 9, 1), np.uint8), np.arange(4) % 2))
    with pytest.raises(UserError, match="takes images of 1 by 8 by 8, those of task 'i' have 1 by 9 by 9"):
        open_subject(str(tmp_path / "own"), large)
    assert open_subject(str(tmp_path / "own"), images).notes[0] == "all 4 validation examples are evaluated"


def test_examples_are_a_sample_whose_majority_class_counts(tmp_path: Path) -> None:
    lines, labels = texts(90, seed=2), np.sort(np.arange(90) % 3)
    checkpoint = saved(tmp_path, bert(), tokenizer(pad_token="[PAD]"))
    subject = open_subject(checkpoint, task_of(lines, labels), examples=30, seed=5)
    drawn = subject.model.task.validation
    assert len(drawn) == len(subject.model.examples) == 30
    assert len(set(drawn.labels.tolist())) == 3
    assert subject.model.task.majority_accuracy == np.bincount(drawn.labels).max() / 30
    assert subject.model.examples.labels.tolist() == [labels[lines.index(line)] for line in drawn.inputs]
    assert subject.notes[0] == "30 of 90 validation examples are evaluated, drawn at random with seed 5"
    other = open_subject(checkpoint, task_of(lines, labels), examples=30, seed=6)
    assert other.model.task.validation.inputs != drawn.inputs


def test_weights_that_are_left_out_are_counted_in_a_note(tmp_path: Path) -> None:
    settings = SIZES | {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    model, its_tokenizer = _built("Mixtral", **settings), tokenizer("$A", pad_token="[PAD]")
    subject = _opened(tmp_path, model, its_tokenizer)
    assert _agrees(subject, model, its_tokenizer)
    routers = 2 * 4 * 32
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name) - 3 * 32
    assert sum(weight.numel() for weight in subject.model.weights.values()) == matrices - routers
    assert any(f"({routers:,} of {matrices:,}, " in note for note in subject.notes)


def test_model_and_inputs_are_on_the_device_that_was_asked_for(tmp_path: Path) -> None:
    model, its_tokenizer = bert(), tokenizer(pad_token="[PAD]")
    here = _opened(tmp_path, model, its_tokenizer, device="cpu")
    with fake_device():
        there = open_subject(str(tmp_path), here.model.task, device=NAME)
        assert str(device_of(there.model.model)) == NAME
        torch.testing.assert_close(there.answers, here.answers)
        outcome = evaluate(there.model.model, there.model.examples)
        with pytest.raises(RuntimeError, match="same device"):
            there.model.model(input_ids=there.model.examples.inputs)
        rows = proxies.sample(there.model.examples, 4, 0)
        proxies.agreement(there.model.model, there.model.weights, there.model.examples, rows, "layer", [0.0, 5.0])
    assert outcome.accuracy == here.dense_accuracy == 1
    with pytest.raises(UserError, match="there is no device 'cuda:7' on this machine; there are cpu"):
        open_subject(str(tmp_path), here.model.task, device=NAME)
    with pytest.raises(UserError, match="there is no device 'gpu'"):
        open_subject(str(tmp_path), here.model.task, device="gpu")


def test_a_model_that_answers_by_chance_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = saved(tmp_path, bert(), tokenizer(pad_token="[PAD]"))
    pooled = transformers.models.bert.modeling_bert.BertPooler.forward
    by_chance = lambda self, hidden: pooled(self, hidden + torch.randn_like(hidden))  # noqa: E731
    monkeypatch.setattr(transformers.models.bert.modeling_bert.BertPooler, "forward", by_chance)
    with pytest.raises(UserError, match="differently from one call to the next, as its architecture bert"):
        open_subject(checkpoint, task_of(LINES, [0, 1, 2] * 20))
