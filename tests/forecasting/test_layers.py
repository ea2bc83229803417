"""Which blocks can go, against the model with its list of blocks shortened by hand, in plain torch."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_texts
import torch
from prunecast.datasets.tasks import Task
from prunecast.errors import UserError
from prunecast.forecasting.layers import LayerSubject, find_layers, open_classifier, open_language_model, save
from prunecast.forecasting.layers_report import document, lines
from prunecast.loading import storage
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning.structured import load_removed

import transformers  # isort: skip

DEPTH = 4
SETTINGS: dict[str, Any] = {"device": "cpu", "examples": None, "max_length": 16, "seed": 0}


@pytest.fixture(scope="module")
def task() -> Task:
    """Texts with the labels that the classifier gives most of them."""
    lines = small_texts.texts(40)
    model = _bert(lines)
    answers = small_texts.alone(model, small_texts.tokenizer(pad_token="[PAD]"), lines).argmax(-1).numpy()
    answers[::8] = (answers[::8] + 1) % 3
    return small_texts.task_of(lines, answers)


def _bert(lines: list[str]) -> Any:
    """A classifier of which the second and third block change little, the last one much."""
    model = small_texts.bert(num_hidden_layers=DEPTH)
    for place, factor in ((1, 0.02), (2, 0.1)):
        for part in (model.bert.encoder.layer[place].attention.output, model.bert.encoder.layer[place].output):
            part.dense.weight.data *= factor
    small_texts.spread(model, model.classifier, small_texts.tokenizer(pad_token="[PAD]"), lines)
    return model


@pytest.fixture(scope="module")
def classifier(task: Task, tmp_path_factory: pytest.TempPathFactory) -> LayerSubject:
    folder = tmp_path_factory.mktemp("classifier") / "bert"
    checkpoint = small_texts.saved(
        folder, _bert(list(task.validation.inputs)), small_texts.tokenizer(pad_token="[PAD]")
    )
    return open_classifier(checkpoint, task, **SETTINGS)


def _gpt2(**settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": DEPTH, "n_head": 2, "n_positions": 40, "initializer_range": 0.3}
    config = transformers.GPT2Config(vocab_size=small_texts.TOKENS, **sizes | settings)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> LayerSubject:
    folder = tmp_path_factory.mktemp("language") / "gpt2"
    checkpoint = small_texts.saved(folder, _gpt2(), small_texts.tokenizer(bos_token="[CLS]"))
    return open_language_model(checkpoint, "\n".join(small_texts.texts(40)), **SETTINGS | {"max_length": 9})


@torch.no_grad()
def _without(subject: LayerSubject, task: Task | None, blocks: tuple[int, ...]) -> tuple[float, float]:
    """Mean loss and share of correct answers, of one text at a time."""
    model: Any = subject.network.model
    holder = model.bert.encoder if task else model.transformer
    name = "layer" if task else "h"
    whole = getattr(holder, name)
    setattr(holder, name, torch.nn.ModuleList(block for place, block in enumerate(whole) if place not in blocks))
    if task:
        logits = small_texts.alone(model, subject.processor, task.validation.inputs)
        labels = torch.from_numpy(task.validation.labels)
    else:
        tokens: Any = subject.network.data
        logits = torch.cat([model(row[None, :-1], use_cache=False).logits[0] for row in tokens])
        labels = tokens[:, 1:].flatten()
    setattr(holder, name, whole)
    right = (logits.argmax(-1) == labels).double().mean()
    return float(torch.nn.functional.cross_entropy(logits.double(), labels)), float(right)


@pytest.mark.parametrize("kind", ["classifier", "language"])
def test_each_measured_set_is_the_model_without_these_blocks(kind, request, task):
    subject = request.getfixturevalue(kind)
    found = find_layers(subject)
    its_task = task if kind == "classifier" else None
    for each in (found.whole, *found.single, *found.sets, found.chosen):
        loss, right = _without(subject, its_task, each.blocks)
        assert each.loss == pytest.approx(loss, rel=1e-5)
        assert each.accuracy == pytest.approx(right)
        assert each.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
    assert [each.blocks for each in found.single] == [(block,) for block in range(DEPTH)]
    assert [len(each.blocks) for each in found.sets] == list(range(1, len(found.sets) + 1))
    assert found.sets[0].loss == min(each.loss for each in found.single)
    for smaller, larger in itertools.pairwise(found.sets):  # with so few blocks the search is greedy in full
        others = [(*smaller.blocks, block) for block in range(DEPTH) if block not in smaller.blocks]
        assert larger.loss == pytest.approx(min(_without(subject, its_task, each)[0] for each in others), rel=1e-5)
    measured = DEPTH + sum(DEPTH - len(each.blocks) for each in found.sets[:-1])
    assert found.evaluations == 5 + 1 + measured + 1
    saved = sum(weight.numel() for weight in subject.network.without([0]).model.parameters())
    by_block = found.parameters[0] - saved
    assert found.parameters[1] == found.parameters[0] - by_block * len(found.chosen.blocks)
    assert all(each > 0 for each in found.milliseconds)


def test_what_can_go_is_the_largest_measured_set_within_epsilon(classifier, task):
    found = find_layers(classifier, epsilon=0.1)
    assert set(found.chosen.blocks) >= {1}
    assert found.chosen.accuracy >= found.whole.accuracy - 0.1
    assert all(
        each.accuracy < found.whole.accuracy - 0.1
        for each in (*found.single, *found.sets)
        if len(each.blocks) > len(found.chosen.blocks)
    )
    strict = find_layers(classifier, epsilon=1e-9)
    assert strict.chosen.accuracy >= strict.whole.accuracy


def test_a_language_model_may_rise_in_perplexity_by_a_share(language):
    found = find_layers(language, epsilon=0.9)
    limit = 1.9 * found.whole.perplexity
    assert found.chosen.perplexity <= limit
    assert all(each.perplexity > limit for each in found.sets if len(each.blocks) > len(found.chosen.blocks))
    assert find_layers(language, epsilon=1e-9).chosen.perplexity <= found.whole.perplexity * 1.001


@pytest.mark.parametrize("kind", ["classifier", "language"])
def test_the_saved_model_is_the_one_that_was_measured(kind, request, task, tmp_path):
    subject = request.getfixturevalue(kind)
    found = find_layers(subject, epsilon=0.95)
    assert found.chosen.blocks
    save(subject, found, tmp_path / "new" / "smaller")
    factory: Any = (
        transformers.AutoModelForSequenceClassification if kind == "classifier" else transformers.AutoModelForCausalLM
    )
    again = factory.from_pretrained(tmp_path / "new" / "smaller").eval()
    assert again.config.num_hidden_layers == DEPTH - len(found.chosen.blocks)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new" / "smaller")
    if kind == "classifier":
        logits = small_texts.alone(again, tokenizer, task.validation.inputs)
        assert (logits.argmax(-1).numpy() == task.validation.labels).mean() == pytest.approx(found.chosen.accuracy)
        assert load_removed(tmp_path / "new" / "smaller")
    else:
        tokens: Any = subject.network.data
        loss = again(tokens, labels=tokens).loss.detach()
        assert float(loss) == pytest.approx(found.chosen.loss, rel=1e-5)
        assert tokenizer.bos_token == "[CLS]"
        assert "id2label" not in json.loads((tmp_path / "new" / "smaller" / "config.json").read_text())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["smaller"]


def test_the_text_and_the_document_say_the_same(classifier, language):
    for subject, quality in ((classifier, "accuracy"), (language, "perplexity")):
        found = find_layers(subject, epsilon=0.9)
        text = list(lines(subject, found))
        assert text[0].split() == ["removed", "forecast", "loss", quality, "blocks"]
        assert len([line for line in text if line[:8].strip().isdigit()]) == DEPTH + len(found.sets)
        assert any(line.startswith("block") and "can go with at most" in line for line in text)
        assert f"cost {found.evaluations} evaluations of all examples" in text[-1]
        stated = json.loads(document(subject, found, "there"))
        assert (stated["format"], stated["saved"], stated["examples"]) == (1, "there", subject.network.examples)
        assert stated["chosen"]["blocks"] == list(found.chosen.blocks)
        assert stated["whole"]["loss"] == found.whole.loss
    nothing = find_layers(language, epsilon=1e-9)
    if not nothing.chosen.blocks:
        assert any(line.startswith("no block can go with at most 0%") for line in lines(language, nothing))


def test_fewer_blocks_with_a_higher_loss_than_more_are_pointed_out(language):
    found = find_layers(language)
    falls = sum(after.loss < before.loss for before, after in itertools.pairwise((found.whole, *found.sets)))
    assert sum("losses of blocks do not add up" in line for line in lines(language, found)) == falls


def test_blocks_of_text_begin_with_the_start_token_and_are_drawn_by_seed(language, tmp_path):
    tokens: Any = language.network.data
    assert tokens.shape == (12, 9)
    assert (tokens[:, 0] == small_texts.CLS).all()
    assert language.notes == (
        f"12 of {language.notes[0].split()[2]} blocks of 9 tokens are evaluated, each after the start token, drawn at "
        "random with seed 0",
    )
    checkpoint = small_texts.saved(tmp_path / "gpt2", _gpt2(n_positions=8), small_texts.tokenizer())
    few = open_language_model(checkpoint, " ".join(small_texts.WORDS[:20]), **SETTINGS)
    rows: Any = few.network.data
    np.testing.assert_array_equal(rows, torch.arange(5, 21).view(2, 8))  # as many tokens as the model takes
    assert few.notes == ("2 of 2 blocks of 8 tokens are evaluated",)


def test_what_cannot_be_answered_is_one_sentence(task, classifier, language, tmp_path):
    words = "\n".join(small_texts.texts(40))
    tokenizer = small_texts.tokenizer(pad_token="[PAD]")
    bert, gpt2 = tmp_path / "bert", tmp_path / "gpt2"
    small_texts.saved(bert, small_texts.bert(), tokenizer)
    small_texts.saved(gpt2, _gpt2(), tokenizer)
    storage.save(ImageClassifier("preresnet8_4", 3, (3, 8, 8)), None, tmp_path / "images")
    albert = {"embedding_size": 16, "num_labels": 3}
    sizes = small_texts.SIZES | albert
    model = transformers.AlbertForSequenceClassification(transformers.AlbertConfig(**sizes))
    small_texts.saved(tmp_path / "albert", model, tokenizer)
    both_ways = transformers.BertLMHeadModel(transformers.BertConfig(**small_texts.SIZES))
    small_texts.saved(tmp_path / "both_ways", both_ways, tokenizer)
    small_texts.saved(tmp_path / "base", transformers.GPT2Model(_gpt2().config), tokenizer)
    small_texts.saved(
        tmp_path / "encoder", transformers.BertModel(transformers.BertConfig(**small_texts.SIZES)), tokenizer
    )
    one = small_texts.saved(tmp_path / "one", small_texts.bert(num_hidden_layers=1), tokenizer)
    for attempt, sentence in (
        (
            lambda: _text(bert, words),
            "'bert' was saved as BertForSequenceClassification, and a classifier is given lab",
        ),
        (
            lambda: _text(tmp_path / "images", words),
            "'images' was saved as preresnet8_4, and a classifier is given lab",
        ),
        (lambda: _text(tmp_path / "both_ways", words), "'both_ways' predicts a token from later ones"),
        (lambda: _text(tmp_path / "encoder", words), "'encoder' is no causal language model but BertModel: it lacks"),
        (lambda: _text(tmp_path / "nowhere", words), "there is no checkpoint folder"),
        (lambda: _text(gpt2, "w1 w2 w3"), "the text has 3 tokens, which is less than one block of 16; give more text"),
        (lambda: _text(gpt2, words, max_length=1), "a block of 1 token has none to predict"),
        (lambda: _text(gpt2, words, device="cuda:99"), "there is no device 'cuda:99'"),
        (
            lambda: open_classifier(str(gpt2), task, **SETTINGS),
            "was saved as GPT2LMHeadModel; a language model is given",
        ),
        (lambda: open_classifier(str(tmp_path / "albert"), task, **SETTINGS), "the blocks of albert are not found"),
        (lambda: find_layers(open_classifier(one, task, **SETTINGS)), "one has one block, which must stay"),
        (lambda: find_layers(classifier, epsilon=0), "epsilon is 0; it is"),
    ):
        with pytest.raises(UserError, match=sentence) as raised:
            attempt()
        assert "\n" not in str(raised.value)


def _text(folder: Path, text: str, **settings: Any) -> LayerSubject:
    return open_language_model(str(folder), text, **SETTINGS | settings)


def test_a_model_that_depends_on_the_places_of_its_blocks_is_refused(task, tmp_path):
    """A convolution follows whatever block is the first; attention is divided by the place of its block when loaded."""
    convolution = {"conv_kernel_size": 3, "num_hidden_layers": 3, "num_labels": 3}
    config = transformers.DebertaV2Config(**small_texts.SIZES | convolution)
    torch.manual_seed(0)
    deberta = transformers.DebertaV2ForSequenceClassification(config).eval()
    first = deberta.deberta.encoder.layer[0]
    for part in (first.attention.output.dense, first.output.dense):
        part.weight.data *= 0.01
    checkpoint = small_texts.saved(tmp_path / "deberta", deberta, small_texts.tokenizer(pad_token="[PAD]"))
    subject = open_classifier(checkpoint, task, **SETTINGS)
    with pytest.raises(UserError, match="its other parts depend on the places of the blocks"):
        find_layers(subject, epsilon=0.95)
    model = _gpt2(scale_attn_by_inverse_layer_idx=True, initializer_range=1.0)
    model.transformer.h[0].attn.c_proj.weight.data *= 0.01
    model.transformer.h[0].mlp.c_proj.weight.data *= 0.01
    checkpoint = small_texts.saved(tmp_path / "gpt2", model, small_texts.tokenizer())
    language = open_language_model(checkpoint, "\n".join(small_texts.texts(40)), **SETTINGS)
    found = find_layers(language, epsilon=0.95)
    assert found.chosen.blocks[0] == 0
    with pytest.raises(UserError, match="cannot be saved: read back, it answers otherwise"):
        save(language, found, tmp_path / "smaller")
    assert not (tmp_path / "smaller").exists()
