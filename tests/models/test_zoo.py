import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prunecast import paths
from prunecast.datasets import tasks
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models import training, zoo
from prunecast.models.evaluation import Outcome, evaluate
from prunecast.models.inputs import Examples, prepare
from prunecast.models.prunable import prunable_weights
from prunecast.models.zoo import ModelSpec
from prunecast.seeding import seed_everything
from prunecast.workflow import studies
from torch import Tensor
from transformers import TrainerCallback
from transformers.pytorch_utils import Conv1D

FAMILIES = ("bert", "distilbert", "roberta", "electra", "albert", "deberta-v2", "mpnet", "convbert", "gpt2", "llama")
BATCH = 8


def _spec(architecture: str) -> ModelSpec:
    return ModelSpec(task="colours", architecture=architecture, layers=2, hidden=16, heads=2)


def _built(spec: ModelSpec, task: tasks.Task) -> tuple[Any, Any]:
    seed_everything(0, "test")
    model, tokenizer = zoo.build(spec, task)
    return model, tokenizer


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_family_is_built_saved_and_loaded_with_the_same_outcome(
    architecture: str, task_folder: Path, tmp_path: Path
) -> None:
    task = tasks.load_task("colours")
    model, tokenizer = _built(_spec(architecture), task)
    examples = prepare(task.validation, tokenizer, 64)
    storage.save(model, tokenizer, tmp_path / "saved")
    again, its_tokenizer = storage.load(tmp_path / "saved")
    its_examples = prepare(task.validation, its_tokenizer, 64)
    assert torch.equal(evaluate(model.eval(), examples).loss, evaluate(again, its_examples).loss)
    assert type(again) is type(model)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model_type"] == architecture
    assert [path.suffix for path in (tmp_path / "saved").glob("model*")] == [".safetensors"]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_prunable_are_the_linear_layers_but_the_output_layer(architecture: str, task_folder: Path) -> None:
    model, _ = _built(_spec(architecture), tasks.load_task("colours"))
    prunable = prunable_weights(model, classes=3)
    kinds = (torch.nn.Linear, Conv1D, torch.nn.Conv1d)
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)}
    left_out = linear - set(prunable)
    assert len(left_out) == 1
    assert model.get_parameter(left_out.pop()).shape[0] == 3
    assert not [name for name in prunable if "embeddings." in name or "norm" in name.lower() or name.endswith("bias")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "dimensions"),
    [
        ("vgg16", [4] * 13),
        ("vgg16_bn", [4] * 13),
        ("preresnet20", [4] * 21),
        ("fc2", [2]),
        ("fc5", [2] * 4),
        ("fc12", [2] * 11),
    ],
)
def test_an_image_classifier_reads_digits_and_has_the_prunable_layers_of_its_name(
    architecture: str, dimensions: list[int], tmp_path: Path
) -> None:
    task = tasks.load_task("digits")
    model, tokenizer = _built(ModelSpec(task="digits", architecture=architecture), task)
    storage.save(model, tokenizer, tmp_path / "saved")
    again, _ = storage.load(tmp_path / "saved")
    assert [weight.dim() for weight in prunable_weights(again, classes=10).values()] == dimensions
    examples = prepare(task.validation.first(BATCH), None, 64)
    assert torch.equal(evaluate(model.eval(), examples).loss, evaluate(again, examples).loss)


def _coloured() -> tasks.Task:
    """Images in three colours, each of another brightness and contrast."""
    generator = np.random.default_rng(0)
    middle, spread = np.array([40, 120, 200]), np.array([35, 10, 20])
    images = (middle + generator.normal(size=(40, 32, 32, 3)) * spread).clip(0, 255).astype(np.uint8)
    split = tasks.Split(images, np.arange(40) % 2)
    return tasks.Task("coloured", "image", "folder", ("a", "b"), split, split)


def _evaluated(model: Any, examples: Examples) -> tuple[Tensor, Outcome]:
    """The input (n, channels, height, width) of the network itself when a model is evaluated, and the outcome."""
    inputs: list[Tensor] = []
    hook = model.network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    outcome = evaluate(model, examples)
    hook.remove()
    return torch.cat(inputs), outcome


@pytest.mark.parametrize("architecture", ["fc2_100", "preresnet20"])
def test_standardised_images_have_mean_0_and_deviation_1_and_still_have_after_loading(
    architecture: str, tmp_path: Path
) -> None:
    task = _coloured()
    examples = prepare(task.train, None, 64)
    model, _ = _built(ModelSpec(task="coloured", architecture=architecture, standardise=True), task)
    storage.save(model, None, tmp_path / "saved")
    inputs, outcome = _evaluated(model.eval(), examples)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    again = _evaluated(storage.load(tmp_path / "saved")[0], examples)
    assert torch.equal(again[0], inputs)
    assert torch.equal(again[1].loss, outcome.loss)
    plain, _ = _built(ModelSpec(task="coloured", architecture=architecture), task)
    assert torch.equal(_evaluated(plain.eval(), examples)[0], examples.inputs)


class _Rates(TrainerCallback):
    """Records the learning rate of every step of a training."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, *_: Any, **parts: Any) -> None:
        self.rates.append(parts["optimizer"].param_groups[0]["lr"])


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_a_constant_learning_rate_is_one_and_a_linear_one_warms_up_and_falls(schedule: str) -> None:
    task = tasks.load_task("digits")
    settings = {"epochs": 1, "batch_size": 32, "learning_rate_schedule": schedule}
    spec = ModelSpec.model_validate({"task": "digits", "architecture": "fc2_100", **settings})
    model, recorder = _built(spec, task)[0], _Rates()
    training.train(model, None, task.train.first(640), spec, 0, "recorded", None, [recorder])
    rates = recorder.rates
    assert len(rates) == 20
    if schedule == "constant":
        assert set(rates) == {spec.learning_rate}
    else:
        top = rates.index(max(rates))
        assert top == 2
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert rates[-1] < spec.learning_rate / 10


def test_the_same_seed_builds_the_same_weights(task_folder: Path) -> None:
    task = tasks.load_task("colours")
    (one, _), (two, _) = (_built(_spec("bert"), task) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_checkpoint_folder_is_fine_tuned_with_a_new_head(
    task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tasks.load_task("colours")
    parent, tokenizer = _built(_spec("bert"), task)
    storage.save(parent, tokenizer, tmp_path / "checkpoints" / "someone" / "parent")
    monkeypatch.setenv("PRUNECAST_MODELS", str(tmp_path / "checkpoints"))
    spec = ModelSpec(task="digits", checkpoint="someone/parent")
    ten_classes = tasks.Task("t", "text", "folder", tuple("0123456789"), task.train, task.validation)
    child, _ = _built(spec, ten_classes)
    assert child.config.num_labels == 10
    for name, weight in prunable_weights(child, classes=10).items():
        assert torch.equal(weight, parent.get_parameter(name))
    assert list(zoo.parent_hash(spec)) == ["someone/parent"]


def _saved(task: tasks.Task, folder: Path, architecture: str = "bert") -> tuple[Any, Any]:
    model, tokenizer = _built(_spec(architecture), task)
    storage.save(model, tokenizer, folder)
    return model, tokenizer


def test_layers_of_a_checkpoint_can_be_removed_before_fine_tuning(task_folder: Path, tmp_path: Path) -> None:
    task = tasks.load_task("colours")
    parent, _ = _saved(task, tmp_path / "parent")
    child, tokenizer = _built(ModelSpec(task="colours", checkpoint=str(tmp_path / "parent"), keep_layers=(1,)), task)
    assert torch.equal(
        child.bert.encoder.layer[0].output.dense.weight, parent.bert.encoder.layer[1].output.dense.weight
    )
    storage.save(child, tokenizer, tmp_path / "child")
    again, _ = storage.load(tmp_path / "child")
    assert len(prunable_weights(again, classes=3)) == 7
    with pytest.raises(UserError, match="names layer 5, but the checkpoint has layers 0 to 1"):
        zoo.build(ModelSpec(task="colours", checkpoint=str(tmp_path / "parent"), keep_layers=(5,)), task)


def test_a_checkpoint_that_was_trained_on_the_task_is_not_changed(task_folder: Path, tmp_path: Path) -> None:
    task = tasks.load_task("colours")
    parent, _ = _saved(task, tmp_path / "parent")
    spec = ModelSpec(task="colours", checkpoint=str(tmp_path / "parent"), fine_tuned=True)
    assert all(
        torch.equal(a, b) for a, b in zip(zoo.build(spec, task)[0].parameters(), parent.parameters(), strict=True)
    )
    ten_classes = tasks.Task("t", "text", "folder", tuple("0123456789"), task.train, task.validation)
    with pytest.raises(UserError, match="has 3 classes, but task 't' has 10"):
        zoo.build(spec, ten_classes)


def test_a_checkpoint_of_the_wrong_architecture_is_refused(task_folder: Path, tmp_path: Path) -> None:
    task = tasks.load_task("colours")
    _saved(task, tmp_path / "one")
    config = (tmp_path / "one" / "config.json").read_text()
    with pytest.raises(UserError, match="is a bert, not a roberta"):
        zoo.build(ModelSpec(task="colours", checkpoint=str(tmp_path / "one"), architecture="roberta"), task)
    _saved(task, tmp_path / "two", "distilbert")
    (tmp_path / "two" / "config.json").write_text(config)
    with pytest.raises(UserError, match=r"checkpoint 'two' is not a bert: it lacks \d+ of its weights"):
        storage.load(tmp_path / "two")
    (tmp_path / "two" / "config.json").unlink()
    with pytest.raises(UserError, match="has no config.json"):
        storage.load(tmp_path / "two")


def test_a_tokenizer_that_does_not_fit_is_refused(task_folder: Path, tmp_path: Path) -> None:
    _, tokenizer = _saved(tasks.load_task("colours"), tmp_path / "one")
    tokenizer.add_tokens(["another piece"])
    tokenizer.save_pretrained(tmp_path / "one")
    with pytest.raises(UserError, match=r"its tokenizer has \d+ tokens, its model only \d+"):
        storage.load(tmp_path / "one")


def test_a_model_without_prunable_weights_or_with_broken_ones_is_refused() -> None:
    with pytest.raises(UserError, match="Linear has no prunable weights"):
        prunable_weights(torch.nn.Linear(4, 3), classes=3)
    first = torch.nn.Linear(4, 4)
    first.weight.data[1, 2] = float("nan")
    broken = torch.nn.Sequential(first, torch.nn.Linear(4, 3))
    with pytest.raises(UserError, match=r"layer 0\.weight holds weights that are not finite numbers"):
        prunable_weights(broken, classes=3)


def test_a_pickle_is_refused(tmp_path: Path, task_folder: Path) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"only pytorch_model\.bin, which is a pickle"):
        storage.load(tmp_path)
    spec = ModelSpec(task="colours", checkpoint=str(tmp_path))
    with pytest.raises(UserError, match="safetensors alone"):
        zoo.build(spec, tasks.load_task("colours"))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (ModelSpec(task="colours", architecture="perceptron"), "'perceptron' is not an architecture"),
        (ModelSpec(task="colours", checkpoint="no/such"), "'no/such' could not be loaded"),
    ],
)
def test_an_unknown_architecture_or_checkpoint_is_one_sentence(
    spec: ModelSpec, sentence: str, task_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=sentence):
        zoo.build(spec, tasks.load_task("colours"))


def test_the_registry_is_valid_and_an_unknown_name_is_answered_with_its_names() -> None:
    assert len({spec.architecture for spec in zoo.registry().values() if spec.task == "docstrings"}) >= 4
    with pytest.raises(UserError, match=r"no model 'x' in data/models\.yml.*docstrings_bert"):
        zoo.spec_of("x")


def test_every_model_of_the_studies_is_in_the_registry_and_every_hub_task_is_known() -> None:
    for name in ("laptop", "campaign", "hub"):
        page = studies.read_study(paths.ROOT / "studies" / f"{name}.yml").pages["collect_sweeps"]
        specs = [zoo.spec_of(model) for model in page["models"]]
        assert set(page.get("exact", [])) <= set(page["models"])
    assert len(specs) == 17
    assert {spec.task for spec in specs} <= set(tasks.hub_tasks())
    assert all(spec.fine_tuned for spec in specs)


def test_a_misspelt_setting_in_the_registry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.yml").write_text("m: {task: digits, architecture: vgg16, epoch: 3}")
    monkeypatch.setattr(paths, "DATA", tmp_path)
    zoo.registry.cache_clear()
    with pytest.raises(UserError, match=r"data/models\.yml: epoch is unknown; known are task,"):
        zoo.registry()
