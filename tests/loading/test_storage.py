import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prunecast.errors import UserError
from prunecast.loading import hub, storage
from prunecast.loading.images import ImageInputs
from prunecast.networks.vision import ImageClassifier
from small_texts import EOS, PAD, SIZES, TOKENS, alone, bert, saved, texts, tokenizer

import transformers  # isort: skip

BART = {
    **{"vocab_size": TOKENS, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 40},
    **{"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": EOS, "decoder_start_token_id": EOS, "num_labels": 2},
}
LINES = texts(4)


def _ibert() -> tuple[Any, Any]:
    config = transformers.IBertConfig(**SIZES | {"pad_token_id": 1}, num_labels=3)
    return transformers.IBertForSequenceClassification(config), tokenizer()


@pytest.mark.parametrize(
    "built",
    [
        lambda: (transformers.BartForSequenceClassification(transformers.BartConfig(**BART)), tokenizer("$A </s>")),
        lambda: (bert(5), tokenizer()),
        _ibert,
    ],
    ids=["BART of two classes", "BERT", "I-BERT"],
)
def test_what_is_saved_is_read_back_with_the_same_answers(built: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, its_tokenizer = built()
    storage.save(model, its_tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["id2label"]) == len(config["label2id"]) == model.config.num_labels
    again, its = storage.load(tmp_path)
    assert again.config.id2label == model.config.id2label
    assert torch.equal(alone(again, its, LINES), alone(model, its_tokenizer, LINES))
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(alone(plain, its, LINES), alone(model, its_tokenizer, LINES))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(saved(tmp_path_factory.mktemp("bert") / "ck", bert(), tokenizer()))


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "ck"))


def _rewrite(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_without_a_tokenizer_a_checkpoint_is_refused(own: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (own / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="checkpoint 'ck' has no tokenizer") as refusal:
        storage.load(own)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["roberta", "gpt2", "t5", "xlm-roberta", "llama", "deberta-v2", "albert", "xlnet"])
def test_an_empty_tokenizer_of_no_architecture_is_taken_for_one(kind: str, own: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (own / name).unlink(missing_ok=True)
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    extra = {"d_ff": 16, "d_kv": 8, "n_layer": 1, "d_inner": 16, "d_model": 16, "n_head": 2, "num_layers": 1}
    extra |= {"d_head": 8}
    config = transformers.AutoConfig.for_model(kind)
    for name, value in (sizes | {"intermediate_size": 16, "num_heads": 2, "n_embd": 16} | extra).items():
        if hasattr(config, name):
            setattr(config, name, value)
    config.head_dim = config.num_key_value_heads = 2
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(own)
    with pytest.raises(UserError, match="has no tokenizer"):
        storage.load(own)


def test_flash_attention_of_the_configuration_is_replaced(own: Path) -> None:
    expected = alone(*storage.load(own), LINES)
    for key in ("attn_implementation", "_attn_implementation"):
        _rewrite(own, **{key: "flash_attention_2"})
        torch.testing.assert_close(alone(*storage.load(own), LINES), expected)


@pytest.mark.parametrize(
    ("classifier", "saved_as"),
    [("BertForMaskedLM", "BertForMaskedLM"), ("BertModel", "BertModel"), ("BertForTokenClassification", "BertForTok")],
)
def test_a_model_that_was_not_fine_tuned_is_said_to_have_no_trained_head(
    classifier: str, saved_as: str, own: Path
) -> None:
    getattr(transformers, classifier)(bert().config).save_pretrained(own)
    with pytest.raises(UserError, match=f"has no trained classification head .*saved as {saved_as}"):
        storage.load(own)


def test_weights_of_other_shapes_or_code_of_others_are_one_sentence(own: Path) -> None:
    _rewrite(own, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(UserError, match="other shapes than its config.json says") as refusal:
        storage.load(own)
    assert "\n" not in str(refusal.value)
    auto = {"AutoModelForSequenceClassification": "modeling.Mine", "AutoConfig": "modeling.Config"}
    _rewrite(own, model_type="mine", auto_map=auto)
    with pytest.raises(UserError, match="could not be loaded as a text classifier") as refusal:
        storage.load(own)
    assert "\n" not in str(refusal.value)
    _rewrite(own, model_type="no such type", auto_map=None)
    with pytest.raises(UserError, match="could not be loaded as a text classifier"):
        storage.load(own)


def test_image_checkpoints_are_loaded_as_what_they_are(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vit = transformers.ViTForImageClassification(transformers.ViTConfig(image_size=16, patch_size=8, **sizes))
    vit.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    model, processor, name = storage.open_checkpoint(str(tmp_path / "vit"))
    assert isinstance(processor, ImageInputs)
    assert name == "vit"
    storage.save(model, processor, tmp_path / "again")
    again, _ = storage.load(tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    own = ImageClassifier("fc2", 4, (1, 8, 8))
    own.save_pretrained(tmp_path / "own")
    assert storage.load(tmp_path / "own")[1] is None
    _rewrite(tmp_path / "own", classes=5)
    with pytest.raises(UserError, match="checkpoint own: its weights are not those that its config.json describes"):
        storage.load(tmp_path / "own")


def test_a_hub_id_without_a_connection_is_refused_at_once_and_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    started = time.monotonic()
    with pytest.raises(UserError, match="checkpoint 'someone/none' could not be loaded.*the hub cannot be reached"):
        storage.open_checkpoint("someone/none")
    assert time.monotonic() - started < 5
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UserError, match="there is no checkpoint folder some/folder/deep"):
        storage.open_checkpoint("some/folder/deep")


def test_a_model_that_is_on_this_machine_is_read_without_a_connection(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.hub_options("someone/else") == {"local_files_only": True}
    revision = "0" * 40
    cache = tmp_path / "models--someone--model"
    shutil.copytree(checkpoint, cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    model, its_tokenizer, name = storage.open_checkpoint("someone/model")
    assert name == "someone/model"
    assert torch.equal(alone(model, its_tokenizer, LINES), alone(*storage.load(checkpoint), LINES))
