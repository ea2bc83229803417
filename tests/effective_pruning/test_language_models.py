import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_texts
import torch
from prunecast import tables
from prunecast.effective_pruning import language_models
from prunecast.effective_pruning.weight_scores import only
from prunecast.models import language
from prunecast.models.prunable import prunable_weights
from prunecast.pruning import effective_number, gates
from prunecast.workflow import provenance

import transformers  # isort: skip  # after prunecast, which lets torchvision load

EPSILON = 0.05
TALES = language.LanguageSpec(
    corpus="tales", layers=1, hidden=16, heads=4, context=16, vocabulary=280, epochs=2, batch_size=8, learning_rate=1e-2
)


@pytest.fixture
def teller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> language.LanguageModel:
    """A language model trained to count."""
    folder = tmp_path / "corpora" / "tales"
    folder.mkdir(parents=True)
    for split, lines in (("train", 300), ("validation", 40)):
        text = "".join(f"after {number} comes {number + 1} .\n" for number in range(lines))
        (folder / f"{split}.txt.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv("PRUNECAST_DATA", str(folder.parent))
    monkeypatch.setattr(language, "registry", lambda: {"teller": TALES})
    return language.trained_language_model("teller", "small", 0)


def test_rows_and_heads_of_a_language_model_are_pruned(teller: language.LanguageModel) -> None:
    before = [weight.clone() for weight in teller.model.parameters()]
    rows = tables.validate("emp", language_models.of_language(teller, ["magnitude", "wanda"], [1.0], EPSILON))
    assert list(rows[["granularity", "criterion"]].itertuples(index=False, name=None)) == [
        ("row", "magnitude"),
        ("row", "wanda"),
        ("head", "magnitude"),
        ("head", "taylor"),
    ]
    assert (rows["dense"] == language.perplexity(teller.model, teller.blocks)).all()
    np.testing.assert_allclose(np.log(rows["pruned"]), rows["pruned_loss"])
    assert all(torch.equal(a, b) for a, b in zip(before, teller.model.parameters(), strict=True))
    weights = prunable_weights(teller.model, teller.model.config.vocab_size)
    assert set(rows.loc[rows["granularity"] == "row", "entries"]) == {sum(w.numel() for w in weights.values())}
    assert set(rows.loc[rows["granularity"] == "head", "entries"]) == {4}
    by_hand = {name: effective_number.row_masks(weight.detach().abs().T).T for name, weight in weights.items()}
    with only(weights, by_hand):
        assert language.perplexity(teller.model, teller.blocks) == rows["pruned"].iloc[0]
    norms = gates.head_scores(teller, "weight_norm")
    with gates.heads_off(teller.model, {name: effective_number.mask(score) for name, score in norms.items()}):
        assert language.perplexity(teller.model, teller.blocks) == pytest.approx(rows["pruned"].iloc[2], rel=1e-12)


GEMMA: dict[str, Any] = small_texts.SIZES | {
    "head_dim": 8,
    "num_key_value_heads": 1,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 8,
}
START = small_texts.CLS


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> language.LanguageModel:
    """A tiny Gemma with random weights as an entry of the registry that names a checkpoint."""
    torch.manual_seed(0)
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**GEMMA))
    small_texts.saved(tmp_path / "own" / "gemma", model, small_texts.tokenizer(bos_token="[CLS]"))
    folder = tmp_path / "corpora" / "words"
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "validation")):
        text = "\n".join(small_texts.texts(60, seed=seed))
        (folder / f"{split}.txt.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv("PRUNECAST_DATA", str(folder.parent))
    monkeypatch.setenv("PRUNECAST_MODELS", str(tmp_path))
    spec = language.PretrainedSpec(corpus="words", checkpoint="own/gemma", context=12)
    monkeypatch.setattr(language, "registry", lambda: {"small": spec})
    return language.trained_language_model("small", "small", 0)


@torch.inference_mode()
def _perplexity(model: Any, blocks: torch.Tensor) -> float:
    """By hand: each block alone, every token after the first."""
    losses = []
    for block in blocks:
        logs = model(block[None]).logits[0].double().log_softmax(-1)
        losses += [-float(logs[place - 1, block[place]]) for place in range(1, len(block))]
    return float(np.exp(np.mean(losses)))


def test_a_pretrained_model_has_the_blocks_of_its_own_tokenizer(pretrained: language.LanguageModel) -> None:
    first, train = len(small_texts.MARKS), " ".join(small_texts.texts(60)).split()
    ids = [first + int(word[1:]) for text in small_texts.texts(60, seed=1) for word in text.split()]
    assert pretrained.blocks.shape == (len(ids) // 11, 12)
    assert (pretrained.blocks[:, 0] == START).all()
    assert pretrained.blocks[:, 1:].flatten().tolist() == ids[: len(ids) // 11 * 11]
    assert 1 < len(pretrained.calibration) <= language.CALIBRATION_BLOCKS
    assert pretrained.calibration[0, 1:].tolist() == [first + int(word[1:]) for word in train[:11]]
    record = provenance.record(pretrained.folder)
    assert set(record["inputs"]) == {"words", "own/gemma"}
    assert "weights" not in record
    dense = language_models.at_same_sparsity([pretrained], 4)["dense"].iloc[0]
    assert dense == pytest.approx(_perplexity(pretrained.model, pretrained.blocks[:4]), rel=1e-5)


def test_as_many_weights_of_each_output_are_pruned_by_every_criterion(pretrained: language.LanguageModel) -> None:
    rows = tables.validate("emp_language", language_models.at_same_sparsity([pretrained], 4))
    found = rows[rows["granularity"] == "row"].set_index(["counted", "chosen"])
    layers = {name: layer for name, layer in pretrained.model.named_modules() if name.endswith("_proj")}
    assert set(found["entries"]) == {sum(layer.weight.numel() for layer in layers.values())}
    squares: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name: squares.update({name: squares.get(name, 0) + given[0].pow(2).sum((0, 1))})
        )
        for name, layer in layers.items()
    ]
    with torch.inference_mode():
        pretrained.model(pretrained.calibration)
    for hook in hooks:
        hook.remove()
    sizes = {name: layer.weight.detach().abs() for name, layer in layers.items()}
    scores = {"magnitude": sizes, "wanda": {name: size * squares[name].sqrt() for name, size in sizes.items()}}
    kept: dict[str, dict[str, list[int]]] = {
        name: {layer: [int(row.sum() ** 2 / (row**2).sum()) for row in score.double()] for layer, score in of.items()}
        for name, of in scores.items()
    }
    kept["half"] = {name: [size.shape[1] // 2] * len(size) for name, size in sizes.items()}
    for counted, numbers in kept.items():
        assert set(found.loc[counted, "kept"]) == {sum(map(sum, numbers.values()))}
        for chosen, of in scores.items():
            model = copy.deepcopy(pretrained.model)
            for name, score in of.items():
                weight = model.get_submodule(name).weight.data
                for row, values, number in zip(weight, score, numbers[name], strict=True):
                    row[values.argsort()[: len(row) - number]] = 0
            by_hand = _perplexity(model, pretrained.blocks[:4])
            assert found.loc[(counted, chosen), "pruned"] == pytest.approx(by_hand, rel=1e-4)
    np.testing.assert_allclose(found["sparsity"], 1 - found["kept"] / found["entries"])
    assert found["pruned"].round(1).nunique() == 9  # far enough apart to be told from each other


def test_as_many_heads_are_pruned_by_every_criterion(pretrained: language.LanguageModel) -> None:
    before = [weight.clone() for weight in pretrained.model.parameters()]
    rows = tables.validate("emp_language", language_models.at_same_sparsity([pretrained], 4))
    assert all(torch.equal(a, b) for a, b in zip(before, pretrained.model.parameters(), strict=True))
    found = rows[rows["granularity"] == "head"].set_index(["counted", "chosen"])
    assert set(found["entries"]) == {8}
    weights = [block.self_attn.o_proj.weight.detach() for block in pretrained.model.model.layers]
    norms = torch.cat([weight.unflatten(1, (4, 8)).norm(dim=(0, 2)) for weight in weights])
    slopes = torch.cat([*gates.head_scores(pretrained, "taylor").values()])
    numbers = {name: int(s.sum() ** 2 / (s**2).sum()) for name, s in (("magnitude", norms), ("taylor", slopes))}
    for counted, number in (numbers | {"half": 4}).items():
        assert set(found.loc[counted, "kept"]) == {number}
        for chosen, scores in (("magnitude", norms), ("taylor", slopes)):
            model = copy.deepcopy(pretrained.model)
            for head in scores.argsort()[: 8 - number].tolist():
                model.model.layers[head // 4].self_attn.o_proj.weight.data[:, head % 4 * 8 : head % 4 * 8 + 8] = 0
            by_hand = _perplexity(model, pretrained.blocks[:4])
            assert found.loc[(counted, chosen), "pruned"] == pytest.approx(by_hand, rel=1e-4)


def test_the_slope_of_a_head_is_that_of_the_loss_when_it_is_scaled(pretrained: language.LanguageModel) -> None:
    model = copy.deepcopy(pretrained.model).double()
    projection = model.model.layers[1].self_attn.o_proj.weight
    slopes = []
    for block in pretrained.calibration:
        losses = []
        for factor in (1 + 1e-4, 1 - 1e-4):
            before = projection.data.clone()
            projection.data[:, 16:24] *= factor
            with torch.inference_mode():
                losses.append(float(language.token_losses(model, block[None]).double().mean()))
            projection.data.copy_(before)
        slopes.append(abs(losses[0] - losses[1]) / 2e-4)
    score = gates.head_scores(pretrained, "taylor")["model.layers.1.self_attn"][2]
    assert float(score) == pytest.approx(np.mean(slopes), rel=2e-2)


def test_what_was_measured_is_kept_and_agrees_with_the_rule(teller: language.LanguageModel) -> None:
    rows = language_models.at_same_sparsity([teller], 8)
    found = rows.set_index(["granularity", "counted", "chosen"])["pruned"]
    ruled = language_models.of_language(teller, ["magnitude", "wanda"], [1.0], EPSILON, 8)
    for row in ruled.to_dict("records"):
        of = (row["granularity"], row["criterion"])
        assert found[(*of, row["criterion"])] == pytest.approx(row["pruned"], rel=1e-6)
        assert found[(*of, "magnitude")] == pytest.approx(row["magnitude_at_same_sparsity"], rel=1e-6)
    path = teller.folder / "same_sparsity" / "row_half_wanda.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"row": {"perplexity": 7.5}}))
    again = language_models.at_same_sparsity([teller], 8)
    assert again.set_index(["granularity", "counted", "chosen"])["pruned"]["row", "half", "wanda"] == 7.5
    shown = language_models.overview(rows)
    assert list(shown.columns) == ["pruned", "by magnitude", "by Wanda or Taylor", "at random"]
    assert shown.loc[("heads", "one half"), "by Wanda or Taylor"] == f"{found['head', 'half', 'taylor']:,.0f}"
    assert shown.loc[("weights of each output", "one half"), "pruned"] == "50%"
    assert list(shown.index.get_level_values(1)[:2]) == ["effective number of magnitude", "effective number of wanda"]
    assert len(shown) == 6


def test_the_highest_of_each_row_are_marked_and_of_equal_ones_the_first_are_not() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    marked = language_models.highest(scores, torch.tensor([2, 3]))
    assert marked.tolist() == [[True, False, False, True], [False, True, True, True]]
