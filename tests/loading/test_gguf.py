import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from prunecast.datasets import tasks
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.loading.folders import config_of, gguf_file, local_folder, weights_hash
from prunecast.loading.language import language_model
from prunecast.models import zoo
from prunecast.pruning import gates
from prunecast.workflow import values
from tokenizers import pre_tokenizers

import transformers  # isort: skip  # after prunecast, which lets torchvision load

CONFIG = transformers.GPT2Config(
    vocab_size=258, n_positions=1024, n_embd=16, n_layer=2, n_head=2, bos_token_id=257, eos_token_id=257
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that begins as GGUF, alone in its folder."""
    path = tmp_path / "models" / "small" / "small.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF" + bytes(60))
    return path


def _write(path: Path, model: Any) -> None:
    """Write a GPT-2 as llama.cpp does: its linear layers as (outputs, inputs)."""
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(CONFIG.n_positions)
    writer.add_embedding_length(CONFIG.n_embd)
    writer.add_block_count(CONFIG.n_layer)
    writer.add_feed_forward_length(4 * CONFIG.n_embd)
    writer.add_head_count(CONFIG.n_head)
    writer.add_layer_norm_eps(CONFIG.layer_norm_epsilon)
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "<|endoftext|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(257)
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    parts = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm"}
    for name, own in (parts | {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}).items():
        names |= {f"h.{block}.{name}": f"blk.{block}.{own}" for block in range(CONFIG.n_layer)}
    for name, weight in model.transformer.state_dict().items():
        module, _, kind = name.rpartition(".")
        turned = weight.T if ".c_" in module and kind == "weight" else weight
        writer.add_tensor(f"{names[module]}.{kind}", turned.contiguous().numpy())
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()


@pytest.mark.slow
@pytest.mark.parametrize("given", ["small/small.gguf", "small"])
def test_a_gguf_file_is_loaded_as_the_model_it_was_made_from(
    path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(CONFIG).eval()
    _write(path, model)
    monkeypatch.setenv("PRUNECAST_MODELS", str(path.parents[1]))
    loaded, tokenizer, name = language_model(given)
    assert name == Path(given).name
    ids = torch.arange(40, 60)[None]
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert tokenizer.bos_token_id == 257
    assert len(tokenizer("ab zu", add_special_tokens=False)["input_ids"]) == 4
    again = path.parent / "again"
    storage.save(loaded, tokenizer, again)
    torch.testing.assert_close(language_model(str(again))[0](ids).logits, model(ids).logits)
    with gates.heads_off(loaded, {"transformer.h.0.attn": torch.tensor([True, False])}):
        assert not torch.allclose(loaded(ids).logits, model(ids).logits)
    with pytest.raises(UserError, match=r"has no trained classification head \(score\.weight\)"):
        storage.open_checkpoint(given)
    task = tasks.load_task("docstrings")
    spec = zoo.ModelSpec(task="docstrings", checkpoint=given)
    classifier: Any = zoo.build(spec, task)[0]
    assert torch.equal(classifier.transformer.h[1].attn.c_proj.weight, model.transformer.h[1].attn.c_proj.weight)


def test_without_its_package_one_sentence_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else ModuleSpec(name, None))
    for load in (language_model, storage.open_checkpoint, lambda given: config_of(Path(given))):
        for given in (path, path.parent):
            with pytest.raises(UserError, match=r"^checkpoint small\.gguf is a GGUF file.*: pip install gguf$"):
                load(str(given))
    with pytest.raises(UserError, match="pip install gguf"):
        values.resolved({"checkpoint": str(path)})


def test_a_gguf_file_is_found_by_its_path_or_that_of_its_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNECAST_MODELS", str(path.parents[1]))
    assert local_folder("small/small.gguf") == path
    assert local_folder("small") == path.parent
    assert gguf_file(path) == gguf_file(path.parent) == path
    assert len(weights_hash("small")) == 64
    assert weights_hash("small") == weights_hash("small/small.gguf") != weights_hash("someone/else")
    other = path.with_name("other.gguf")
    other.write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"^checkpoint small holds 2 GGUF files; name one, such as .*other\.gguf$"):
        config_of(path.parent)
    (path.parent / "model.safetensors").touch()
    assert gguf_file(path.parent) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<html>", "does not begin as a GGUF file does; download it again"),
        (b"", "does not begin as a GGUF file does; download it again"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS and not the weights"),
    ],
)
def test_what_is_no_gguf_file_is_refused(path: Path, content: bytes, sentence: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^checkpoint small\.gguf {sentence}"):
        language_model(str(path))
