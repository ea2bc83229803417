from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from prunecast.cli import main
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning.structured import Removal, remove
from prunecast.selection import onnx_export
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"input_ids": torch.arange(4, 34).view(2, 15), "attention_mask": torch.ones(2, 15, dtype=torch.long)}


def _text_model(architecture: str) -> Any:
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4} if architecture == "gpt2" else SIZES | {"intermediate_size": 64}
    config = AutoConfig.for_model(architecture, vocab_size=40, num_labels=3, pad_token_id=1, **sizes)
    factory: Any = AutoModelForSequenceClassification
    return factory.from_config(config).eval()


def _answers(file: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(file)
    (logits,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    return np.asarray(logits)


def _logits(model: nn.Module, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs)["logits"]
    return logits.numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "heads"), [("bert", 0.5), ("mpnet", 0.0), ("gpt2", None)])
def test_a_text_classifier_answers_alike_from_its_file_with_any_number_of_texts_and_tokens(
    architecture: str, heads: float | None, tmp_path: Path
) -> None:
    model = _text_model(architecture)
    if heads is not None:
        model = remove(model, Removal(heads, 0.5, 1, "magnitude"), TEXT, None)
    storage.save(model, None, tmp_path / "model")
    done = onnx_export.export(tmp_path / "model", tmp_path / "model.onnx")
    for examples, tokens in [(2, 15), (5, 3)]:
        inputs = {name: value[:1, :tokens].repeat(examples, 1) for name, value in TEXT.items()}
        inputs["attention_mask"][0, tokens - 1] = 0
        np.testing.assert_allclose(_answers(tmp_path / "model.onnx", inputs), _logits(model, inputs), atol=1e-5)
    assert done.bytes == (tmp_path / "model.onnx").stat().st_size
    assert done.difference < 1e-5


def test_an_image_network_without_some_channels_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = {"pixel_values": torch.randn(3, 3, 32, 32)}
    smaller = remove(
        ImageClassifier("preresnet8_16", 3, (3, 32, 32)).eval(), Removal(0, 0.5, 0, "magnitude"), images, None
    )
    storage.save(smaller, None, tmp_path / "model")
    onnx_export.export(tmp_path / "model", tmp_path / "model.onnx")
    np.testing.assert_allclose(_answers(tmp_path / "model.onnx", images), _logits(smaller, images), atol=1e-4)


def test_the_command_says_the_size_and_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.save(_text_model("bert"), None, tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "model.onnx")]) == 0
    out, err = capsys.readouterr()
    size = (tmp_path / "model.onnx").stat().st_size
    assert out.startswith(
        f"{tmp_path / 'model.onnx'}: {size / 1e6:.1f} MB; its logits differ from the model's by at most"
    )
    assert not err


@pytest.mark.slow
def test_what_cannot_be_exported_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _text_model("bert")
    storage.save(model, None, tmp_path / "model")
    with pytest.raises(UserError, match=r"model was not written to .*: No such file"):
        onnx_export.export(tmp_path / "model", tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(UserError, match="absent"):
        onnx_export.export(tmp_path / "absent", tmp_path / "model.onnx")
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match="model is not exported: the logits of the file differ"):
        onnx_export.export(tmp_path / "model", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match="to export takes no_such_package: pip install no_such_package"):
        onnx_export.export(tmp_path / "model", tmp_path / "model.onnx")
