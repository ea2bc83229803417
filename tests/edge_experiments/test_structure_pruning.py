"""Networks made smaller by removing edges, beside random removal, weights and the dependency graph."""

import gzip
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import tables
from prunecast.cost.flops import flops
from prunecast.datasets.tasks import load_task
from prunecast.edge_experiments import structure_choices, structure_language, structure_pruning
from prunecast.edge_experiments.structure_cases import Case, Classification, classifier
from prunecast.edge_surrogates.gate_scores import Expansion
from prunecast.errors import UserError
from prunecast.experiments import small_models
from prunecast.graph.edge_pruning import cost_of
from prunecast.loading import storage
from prunecast.models.checkpoints import TrainedModel
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning.finetuning import budget_of
from small_texts import SIZES, tokenizer
from torch.nn import functional

from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM  # isort: skip

BUDGET = budget_of(epochs=1, examples=16, batch_size=8, learning_rate=1e-3, distilled=0, bfloat16=False)
BLOCK = 2 * 2 * 64 * 4 * 4 * 9  # operations of the two convolutions of a block of four channels on 8 by 8 pixels


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image") / "small"
    torch.manual_seed(0)
    storage.save(ImageClassifier("preresnet14_4", 10, (1, 8, 8)), None, folder)
    return folder


@pytest.fixture
def images(image_folder: Path) -> Case:
    return classifier(str(image_folder), "digits", "", BUDGET, 32, "small", 0)


def text_checkpoint(folder: Path, classes: tuple[str, ...]) -> Path:
    torch.manual_seed(0)
    names: dict[str, Any] = {"num_labels": len(classes), "id2label": dict(enumerate(classes))}
    sizes: dict[str, Any] = {**SIZES, "hidden_size": 16, "num_hidden_layers": 3}
    storage.save(BertForSequenceClassification(BertConfig(**sizes, **names)), tokenizer(pad_token="[PAD]"), folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path, task_folder: Path) -> Case:
    folder = text_checkpoint(tmp_path / "bert", ("warm", "cold", "none"))
    return classifier(str(folder), "colours", "colours", BUDGET, 16, "small", 0)


@pytest.fixture(scope="session")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language") / "llama"
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": small_models.TOKENS,
        "hidden_size": 16,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
    }
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    small_models.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for split in ("train", "validation"):
        path = tmp_path / "corpora" / "sayings" / f"{split}.txt.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"a stitch in time saves nine\n" * 40))
    monkeypatch.setenv("PRUNECAST_DATA", str(tmp_path / "corpora"))
    return "sayings"


def rows(case: Case, **changes: Any) -> pd.DataFrame:
    arguments: dict[str, Any] = {
        "shares": [0.6],
        "methods": structure_choices.METHODS,
        "stages": ["zero_shot"],
        "seeds": [0],
        "draws": 2,
        "rounds": 1,
        "run": "small",
    }
    return structure_pruning.rows_of(case, **(arguments | changes))


def test_operations_of_each_edge_are_those_of_its_convolutions(images: Case) -> None:
    choices = structure_choices.Choices(images)
    by_label = dict(zip(images.labels, choices.costs, strict=True))
    assert by_label["network.1.norm1…convolution2"] == BLOCK
    assert by_label["network.3.convolution1…convolution2"] == BLOCK * (0.5 + 1) / 2  # it widens from 4 to 8 channels
    assert by_label["network.2.identity"] == by_label["network.3.shortcut"] == by_label["network.0"] == 0


@pytest.mark.slow
def test_every_method_gives_a_smaller_network_at_about_as_many_operations(images: Case) -> None:
    table = tables.validate("pruned_structure", rows(images))
    assert set(table["method"]) == set(structure_choices.METHODS)
    assert (table["method"] == "random").sum() == 2
    budget = table["flops_dense"] - 0.4 * structure_choices.Choices(images).costs.sum()
    assert ((table["flops"] - budget).abs() <= BLOCK / 2 + 1).all()
    assert (table["parameters"] < table["parameters_dense"]).all()
    assert (table["dense"] == table["dense"].iloc[0]).all()
    spent = table.set_index("method")["evaluations"]
    assert spent["leave_one_out"] == 7  # six blocks, and the whole network
    assert spent["gate_gradient"] == 3
    assert spent["live_edges"] == 13  # six random masks more
    assert (spent[["random", "magnitude", "dependency_graph"]] == 0).all()


def test_the_smaller_network_is_the_masked_one(images: Case) -> None:
    choices = structure_choices.Choices(images)
    mask, _ = choices.mask("leave_one_out", 0.6, 0)
    chosen = choices.chosen("leave_one_out", 0.6, 0)
    labels = torch.from_numpy(load_task("digits").train.labels[:32])
    with torch.inference_mode():
        loss = functional.cross_entropy(chosen.model(**images.batch)["logits"], labels)
    assert float(loss) == pytest.approx(images.masked.losses(mask)[0], rel=1e-5)
    left = cost_of(images.masked.graph, mask, choices.costs)[0]
    assert flops(chosen.model, images.one)[0] == choices.flops - choices.costs.sum() + left


def test_a_second_call_measures_nothing(images: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = ["leave_one_out", "random"]
    first = rows(images, methods=methods)
    monkeypatch.setattr(structure_choices.Choices, "chosen", lambda *_: pytest.fail("it was measured again"))
    pd.testing.assert_frame_equal(rows(images, methods=methods), first)


def test_derivatives_are_taken_for_the_edges_that_can_be_removed(images: Case) -> None:
    choices = structure_choices.Choices(images)
    choices.mask("gate_integrated_gradients", 0.6, 0)
    scores = cast("Expansion", choices._unfitted["gate_integrated_gradients"]).scores
    assert (scores[~choices.removable] == 0).all()
    ends = images.masked.losses(np.array([~choices.removable, np.ones(len(scores), bool)]))
    assert scores.sum() == pytest.approx(ends[0] - ends[1], rel=0.05)


@pytest.mark.slow
def test_blocks_of_texts_are_removed_and_a_second_task_is_learned(texts: Case) -> None:
    before = [parameter.clone() for parameter in texts.dense.parameters()]
    table = tables.validate(
        "pruned_structure",
        rows(
            texts,
            shares=[0.67],
            methods=["leave_one_out", "dependency_graph"],
            stages=["zero_shot", "fine_tuned", "transferred"],
        ),
    )
    assert table["stage"].tolist() == ["zero_shot", "fine_tuned", "transferred"] * 2
    assert (table["removed"] == 1).all()
    assert table["which"].iloc[0] in ("block 0", "block 1", "block 2")
    assert all(torch.equal(a, b) for a, b in zip(before, texts.dense.parameters(), strict=True))


def test_a_new_head_has_the_classes_of_the_second_task(subject: TrainedModel, task_folder: Path) -> None:
    target = Classification(subject.task, storage.load(subject.folder)[1], subject.spec, BUDGET)
    smaller: Any = target.with_new_head(subject.model, 0)
    assert smaller.classifier.out_features == smaller.num_labels == subject.task.classes
    before: Any = subject.model
    assert not torch.equal(smaller.classifier.weight, before.classifier.weight)


@pytest.mark.slow
def test_a_language_model_loses_blocks(language_folder: Path, corpus: str) -> None:
    table = structure_pruning.measure(
        str(language_folder),
        corpus,
        BUDGET,
        shares=[0.5],
        methods=["leave_one_out", "verified", "dependency_graph", "dependency_graph_taylor"],
        calibration=4,
        evaluated=4,
        context=12,
        rounds=1,
    )
    table = tables.validate("pruned_structure", table)
    assert (table["metric"] == "perplexity").all()
    assert (table["removed"] == 2).all()
    assert (table["flops"] < table["flops_dense"]).all()
    removed = table[table["method"] == "leave_one_out"]["flops"].iloc[0]
    assert (table["flops"] - removed).abs().max() <= 0.02 * removed
    assert (
        table[table["stage"] == "fine_tuned"]["pruned"] != table[table["stage"] == "zero_shot"]["pruned"].to_numpy()
    ).all()


def test_neurons_of_the_smallest_weights_go(language_folder: Path) -> None:
    dense: Any = LlamaForCausalLM.from_pretrained(language_folder)
    layer = dense.model.layers[1].mlp
    with torch.no_grad():
        for part, dim in ((layer.gate_proj, 0), (layer.up_proj, 0), (layer.down_proj, 1)):
            part.weight.index_fill_(dim, torch.tensor([3, 7]), 0.0)
    smaller: Any = structure_language._narrower(dense, 0.05, "magnitude", torch.randint(0, 99, (1, 6)))
    kept = [neuron for neuron in range(40) if neuron not in (3, 7)]
    assert torch.equal(smaller.model.layers[1].mlp.up_proj.weight, layer.up_proj.weight[kept])
    assert torch.equal(smaller.model.layers[1].mlp.down_proj.weight, layer.down_proj.weight[:, kept])


def test_a_text_that_is_too_short_is_refused(language_folder: Path, corpus: str) -> None:
    with pytest.raises(UserError, match="the text has 93 blocks of 12 tokens, fewer than 256; take fewer"):
        structure_pruning.measure(str(language_folder), corpus, BUDGET, context=12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["best"]}, "there is no method 'best' for small; there are leave_one_out, gate_gradient"),
        ({"stages": ["transferred"]}, "there is no stage 'transferred' for small; there are zero_shot, fine_tuned"),
        ({"shares": [0.5, 1.0]}, "share 1.0 is not a share of the operations that stays"),
    ],
)
def test_what_cannot_be_measured_is_refused(images: Case, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows(images, **changes)


def test_a_network_that_is_nowhere_is_refused() -> None:
    with pytest.raises(UserError, match="'nothing' is neither a model of data/models.yml nor a folder"):
        structure_pruning.measure("nothing", "digits", BUDGET)


def test_classes_in_another_order_are_refused(tmp_path: Path, task_folder: Path) -> None:
    folder = text_checkpoint(tmp_path / "bert", ("cold", "warm", "none"))
    with pytest.raises(UserError, match="the classes of checkpoint 'bert' are in another order than those of task"):
        classifier(str(folder), "colours", "", BUDGET, 16, "small", 0)


def test_the_summary_has_means_over_draws_and_shares_of_the_dense_network() -> None:
    row = {
        "network": "net", "stage": "zero_shot", "removed": 2, "method": "random", "dense": 0.8, "flops_dense": 100.0,
        "parameters_dense": 50, "parameters": 40, "latency_ms_dense": 2.0, "latency_ms": 1.0, "evaluations": 0.0,
    }  # fmt: skip
    rows = pd.DataFrame([row | {"pruned": 0.6, "flops": 70.0}, row | {"pruned": 0.5, "flops": 80.0}])
    found = structure_pruning.summary(rows).loc[("net", "zero_shot", 2, "random")]
    assert found[["dense", "pruned", "flops", "parameters", "latency", "networks"]].tolist() == pytest.approx(
        [0.8, 0.55, 0.75, 0.8, 0.5, 2]
    )
