import gzip
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import paths
from prunecast.datasets import corpora, docstrings
from prunecast.errors import UserError
from prunecast.models import language
from prunecast.models.language import LanguageModel, LanguageSpec
from prunecast.pruning import gates
from tokenizers import Tokenizer
from torch import Tensor

WORDS = ("the red house stands", "a blue boat sails", "some grey birds sing", "one green tree grows")
PLACES = ("by the sea", "in the wind", "over the hill", "under the moon", "near the old mill")
SPEC = LanguageSpec(
    corpus="tales", layers=1, hidden=32, heads=2, context=32, vocabulary=320, epochs=3, batch_size=8, learning_rate=1e-2
)
DEEP = SPEC.model_copy(update={"layers": 2, "epochs": 1.5, "train_words": 1500, "bfloat16": True})
LAYER = "transformer.h.0.attn"


def _tale(lines: int, seed: int) -> str:
    generator = np.random.default_rng(seed)
    return "".join(f"{generator.choice(WORDS)} {generator.choice(PLACES)} .\n" for _ in range(lines))


def _write(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True)
    for split, text in texts.items():
        (folder / f"{split}.txt.gz").write_bytes(gzip.compress(text.encode()))


def _prepare(patch: pytest.MonkeyPatch, folder: Path) -> None:
    _write(folder / "corpora" / "tales", train=_tale(600, seed=1), validation=_tale(60, seed=2))
    patch.setenv("PRUNECAST_DATA", str(folder / "corpora"))
    patch.setattr(language, "registry", lambda: {"tiny": SPEC, "deep": DEEP})


@pytest.fixture
def corpus_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of corpora with one in it, and a registry of two small models of it."""
    _prepare(monkeypatch, tmp_path)
    return tmp_path / "corpora"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    """A small model trained once for all tests; none may change it."""
    folder = tmp_path_factory.mktemp("language")
    with pytest.MonkeyPatch.context() as patch:
        _prepare(patch, folder)
        patch.setenv("PRUNECAST_RUNS", str(folder / "runs"))
        trained = language.trained_language_model("tiny", "small", 0)
    before = {name: weight.clone() for name, weight in trained.model.state_dict().items()}
    yield trained
    assert all(torch.equal(weight, before[name]) for name, weight in trained.model.state_dict().items())


def _perplexity_by_hand(model: Any, blocks: Tensor) -> float:
    with torch.no_grad():
        log_p = model(blocks).logits.double().log_softmax(-1)
    losses = [-log_p[row, at, blocks[row, at + 1]] for row in range(len(blocks)) for at in range(blocks.shape[1] - 1)]
    return math.exp(sum(map(float, losses)) / len(losses))


def _projection(trained: LanguageModel) -> Any:
    """The layer that mixes the heads of the first block."""
    transformer: Any = trained.model.transformer
    return transformer.h[0].attn.c_proj


def _mask(*heads: bool) -> dict[str, Tensor]:
    return {LAYER: torch.tensor(heads, dtype=torch.bool)}


def test_training_lowers_the_perplexity_far_below_that_of_guessing(tiny: LanguageModel) -> None:
    assert not tiny.model.training
    assert 280 < tiny.model.config.vocab_size <= 320
    assert 1 < language.perplexity(tiny.model, tiny.blocks) < 10
    untrained = language._built(SPEC, tiny.model.config.vocab_size, 0, "tiny")
    assert language.perplexity(untrained, tiny.blocks) > 200


def test_perplexity_is_that_of_a_computation_by_hand(tiny: LanguageModel) -> None:
    blocks = tiny.blocks[:3]
    assert language.perplexity(tiny.model, blocks) == pytest.approx(_perplexity_by_hand(tiny.model, blocks), rel=1e-5)
    many = tiny.blocks.repeat(1 + 2 * language.TOKENS // tiny.blocks.numel(), 1)  # of several batches, the last smaller
    assert language.perplexity(tiny.model, many) == pytest.approx(language.perplexity(tiny.model, tiny.blocks))


def test_blocks_are_the_text_in_order_and_the_last_incomplete_one_is_dropped(tiny: LanguageModel) -> None:
    tokenizer = Tokenizer.from_file(str(tiny.folder / "tokenizer.json"))
    text = _tale(60, seed=2)
    decoded = tokenizer.decode(tiny.blocks.flatten().tolist())
    assert text.startswith(decoded)
    assert 0 <= len(tokenizer.encode(text[len(decoded) :]).ids) < SPEC.context
    assert _tale(600, seed=1).startswith(tokenizer.decode(tiny.calibration.flatten().tolist()))
    assert tuple(tiny.calibration.shape) == (language.CALIBRATION_BLOCKS, SPEC.context)
    unusual = "ŝtrange \x00 bytes 🐦"
    assert tokenizer.decode(tokenizer.encode(unusual).ids) == unusual


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(corpus_folder: Path) -> None:
    one, again, other = (
        language.trained_language_model("deep", run, seed) for run, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    pairs = zip(one.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(one.blocks, again.blocks)
    assert torch.equal(one.calibration, again.calibration)
    assert not torch.equal(one.model.lm_head.weight, other.model.lm_head.weight)


def test_a_checkpoint_is_reused_until_something_it_depends_on_changes(
    corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = language.trained_language_model("deep", "saved", 0)
    weights = first.folder / "model.safetensors"
    assert first.folder == paths.run("saved") / "language_models" / "deep"
    written = weights.stat().st_mtime_ns
    again = language.trained_language_model("deep", "saved", 0)
    assert weights.stat().st_mtime_ns == written
    assert torch.equal(first.model.lm_head.weight, again.model.lm_head.weight)
    assert torch.equal(first.blocks, again.blocks)
    keys = {json.loads((first.folder / "trained.json").read_text())["key"]["inputs"]}
    (corpus_folder / "tales" / "validation.txt.gz").write_bytes(gzip.compress(_tale(60, seed=3).encode()))
    for spec in (DEEP, DEEP.model_copy(update={"learning_rate": 5e-3})):
        monkeypatch.setattr(language, "registry", lambda spec=spec: {"deep": spec})
        language.trained_language_model("deep", "saved", 0)
        keys.add(json.loads((first.folder / "trained.json").read_text())["key"]["inputs"])
    assert len(keys) == 3
    assert weights.stat().st_mtime_ns > written


def test_only_the_first_train_words_are_trained_on(corpus_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = DEEP.model_copy(update={"train_words": 400, "epochs": 0.1})
    monkeypatch.setattr(language, "registry", lambda: {"few": few})
    trained = language.trained_language_model("few", "few", 0)
    tokenizer = Tokenizer.from_file(str(trained.folder / "tokenizer.json"))
    assert 350 < len(tokenizer.decode(trained.calibration.flatten().tolist()).split()) <= 400


def test_prunable_are_the_linear_layers_in_the_blocks(tiny: LanguageModel) -> None:
    weights = language.prunable(tiny.model)
    shapes = {"attn.c_attn": (32, 96), "attn.c_proj": (32, 32), "mlp.c_fc": (32, 128), "mlp.c_proj": (128, 32)}
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        f"transformer.h.0.{layer}.weight": shape for layer, shape in shapes.items()
    }
    assert all(weight is tiny.model.get_parameter(name) for name, weight in weights.items())
    assert tiny.model.lm_head.weight is tiny.model.transformer.wte.weight


def test_with_all_heads_on_nothing_changes(tiny: LanguageModel) -> None:
    dense = tiny.model(tiny.blocks[:2]).logits
    with gates.heads_off(tiny.model, _mask(True, True)):
        assert torch.equal(tiny.model(tiny.blocks[:2]).logits, dense)
    with gates.heads_off(tiny.model, {}):
        assert torch.equal(tiny.model(tiny.blocks[:2]).logits, dense)


@pytest.mark.parametrize("on", [(False, False), (False, True), (True, False)])
def test_a_head_that_is_off_is_one_whose_rows_of_the_projection_are_zero(
    tiny: LanguageModel, on: tuple[bool, bool]
) -> None:
    projection = _projection(tiny)
    weight, dense = projection.weight.detach().clone(), tiny.model(tiny.blocks[:2]).logits
    with gates.heads_off(tiny.model, _mask(*on)):
        off = tiny.model(tiny.blocks[:2]).logits
    assert torch.equal(projection.weight, weight)
    assert torch.equal(tiny.model(tiny.blocks[:2]).logits, dense)
    projection.weight.data.mul_(_mask(*on)[LAYER].repeat_interleave(16)[:, None])
    zeroed = tiny.model(tiny.blocks[:2]).logits
    projection.weight.data.copy_(weight)
    torch.testing.assert_close(off, zeroed)
    assert (off - dense).abs().max() > 1e-3


def test_heads_are_on_again_after_an_error(tiny: LanguageModel) -> None:
    dense = language.perplexity(tiny.model, tiny.blocks)
    with pytest.raises(RuntimeError, match="stop"), gates.heads_off(tiny.model, _mask(False, False)):
        assert language.perplexity(tiny.model, tiny.blocks) > dense
        raise RuntimeError("stop")
    assert language.perplexity(tiny.model, tiny.blocks) == dense


def test_the_norm_of_a_head_is_that_of_its_rows(tiny: LanguageModel) -> None:
    weight = _projection(tiny).weight.detach().double()
    scores = gates.head_scores(tiny, "weight_norm")
    assert list(scores) == [LAYER]
    torch.testing.assert_close(scores[LAYER], torch.stack([(weight[:16] ** 2).sum(), (weight[16:] ** 2).sum()]).sqrt())


def test_the_taylor_score_is_the_mean_slope_of_the_loss_along_each_head(tiny: LanguageModel) -> None:
    scores = gates.head_scores(tiny, "taylor")
    assert (scores[LAYER].dtype, tuple(scores[LAYER].shape)) == (torch.float64, (2,))
    assert scores[LAYER].min() > 0
    projection, step = _projection(tiny), 1e-2
    weight = projection.weight.detach().clone()
    for head in (0, 1):
        slopes = []
        for block in tiny.calibration[:8]:
            losses = []
            for gate in (1 + step, 1 - step):
                projection.weight.data[16 * head : 16 * (head + 1)] *= gate
                losses.append(math.log(language.perplexity(tiny.model, block[None])))
                projection.weight.data.copy_(weight)
            slopes.append(abs(losses[0] - losses[1]) / (2 * step))
        score = gates.head_scores(replace(tiny, calibration=tiny.calibration[:8]), "taylor")[LAYER][head]
        assert float(score) == pytest.approx(float(np.mean(slopes)), rel=0.02)
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_a_head_that_is_off_has_no_taylor_score(tiny: LanguageModel) -> None:
    with gates.heads_off(tiny.model, _mask(False, True)):
        scores = gates.head_scores(tiny, "taylor")[LAYER]
    assert scores[0] == 0 < scores[1]
    projection = _projection(tiny)
    weight = projection.weight.detach().clone()
    projection.weight.data[16:] = 0
    scores = gates.head_scores(tiny, "taylor")[LAYER]
    projection.weight.data.copy_(weight)
    assert scores[1] == 0 < scores[0]


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        (
            {"transformer.h.1.attn": torch.ones(2, dtype=torch.bool)},
            r"no attention layer.*h\.1.*there are .*h\.0\.attn",
        ),
        ({LAYER: torch.ones(3, dtype=torch.bool)}, r"one boolean for each of its 2 heads, not \(3,\)"),
        ({LAYER: torch.ones(2)}, r"one boolean for each of its 2 heads, not .* torch\.float32"),
    ],
)
def test_masks_of_unknown_heads_are_refused(tiny: LanguageModel, keep: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), gates.heads_off(tiny.model, keep):
        pass


def test_an_unknown_criterion_is_refused(tiny: LanguageModel) -> None:
    unknown: Any = "luck"
    with pytest.raises(UserError, match="'luck' for heads; there are weight_norm, taylor"):
        gates.head_scores(tiny, unknown)


def test_a_local_folder_is_a_corpus(corpus_folder: Path) -> None:
    assert corpora.load_corpus("tales") == {"train": _tale(600, seed=1), "validation": _tale(60, seed=2)}


def test_docstrings_are_a_corpus_of_which_a_tenth_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = pd.DataFrame({"text": [f"Sentence number {number} of many." for number in range(50)]})
    monkeypatch.setattr(docstrings, "sentences", lambda: sentences)  # reading all packages takes long
    lines = {split: text.splitlines() for split, text in corpora.load_corpus("docstrings").items()}
    assert (len(lines["train"]), len(lines["validation"])) == (45, 5)
    assert sorted(lines["train"] + lines["validation"]) == sorted(sentences["text"])
    assert lines["train"] != sorted(lines["train"])


def test_a_corpus_of_the_hub_is_what_load_dataset_reads(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    pd.DataFrame({"text": ["", " = Title = \n", " One line . \n"]}).to_parquet(folder / "train-0.parquet")
    with pytest.raises(UserError, match="no split 'validation': it has train"):
        corpora.from_hub("tales", str(folder.parent))
    pd.DataFrame({"text": [" Another . \n"]}).to_parquet(folder / "validation-0.parquet")
    texts = corpora.from_hub("tales", str(folder.parent))
    assert texts == {"train": "\n = Title =\n One line .\n", "validation": " Another .\n"}


def test_without_a_network_a_hub_name_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(UserError, match="'wikitext2' is not in PRUNECAST_DATA and the hub could not serve it"):
        corpora.load_corpus("wikitext2")


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"train": _tale(60, seed=1)}, r"spoilt has no validation\.txt\.gz"),
        ({"train": _tale(60, seed=1), "validation": " \n\n"}, "'spoilt', split validation: the text is empty"),
        ({"train": "", "validation": _tale(60, seed=1)}, "'spoilt', split train: the text is empty"),
        (
            {"train": _tale(60, seed=1), "validation": "the sea"},
            "validation: its . tokens are less than one block of 32",
        ),
    ],
)
def test_a_spoilt_corpus_is_refused_in_one_sentence(
    corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str], sentence: str
) -> None:
    _write(corpus_folder / "spoilt", **texts)
    monkeypatch.setattr(language, "registry", lambda: {"x": SPEC.model_copy(update={"corpus": "spoilt"})})
    with pytest.raises(UserError, match=sentence):
        language.trained_language_model("x", "spoilt", 0)
    assert not (paths.run("spoilt") / "language_models" / "x").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"plain text",
        gzip.compress("über".encode("latin-1"), mtime=0),
        gzip.compress(b"cut", mtime=0)[:-4],
        gzip.compress(b"", mtime=0)[:10] + b"damaged",
    ],
)
def test_a_file_that_is_no_text_is_refused_in_one_sentence(corpus_folder: Path, content: bytes) -> None:
    (corpus_folder / "tales" / "train.txt.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"tales: train\.txt\.gz is not gzipped text in UTF-8"):
        corpora.load_corpus("tales")


def test_an_error_about_an_unknown_name_lists_the_known_ones(
    corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no corpus 'poems': built in is docstrings.*holds tales.*wikitext2"):
        corpora.load_corpus("poems")
    with pytest.raises(UserError, match=r"no model 'x' in data/language_models\.yml; there are tiny, deep"):
        language.spec_of("x")
    monkeypatch.setattr(language, "registry", lambda: {"odd": SPEC.model_copy(update={"heads": 5})})
    with pytest.raises(UserError, match="'odd': hidden 32 cannot be shared out evenly among 5 heads"):
        language.trained_language_model("odd", "odd", 0)


def test_the_registry_is_read_and_an_invalid_entry_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"docstrings_gpt2", "wikitext2_gpt2"} <= set(language.registry())
    monkeypatch.setattr(paths, "DATA", tmp_path)
    (tmp_path / "language_models.yml").write_text("odd: {corpus: docstrings, colour: red}")
    with pytest.raises(UserError, match=r"language_models\.yml: colour is unknown; known are corpus"):
        language.registry()
