import pytest
import torch
from prunecast import tasks, zoo
from prunecast.errors import UserError
from prunecast.evaluation import prepare, score
from prunecast.seeds import seed_everything

FAMILIES = ("bert", "distilbert", "roberta", "electra")
BATCH = 8


def _spec(architecture, **settings):
    return zoo.ModelSpec(task="colours", architecture=architecture, layers=2, hidden=16, heads=2, **settings)


def _built(spec, task):
    seed_everything(0, "test")
    return zoo.build(spec, task)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_family_is_built_saved_and_loaded_with_the_same_answers(architecture, task_folder, tmp_path):
    task = tasks.load_task("colours")
    model, tokenizer = _built(_spec(architecture), task)
    batches = prepare(task.validation, tokenizer, 64)
    zoo.save(model, tokenizer, tmp_path / "kept")
    again, its_tokenizer = zoo.load(tmp_path / "kept")
    assert score(model.eval(), batches) == score(again, prepare(task.validation, its_tokenizer, 64))
    assert again.config.model_type == architecture
    assert [path.suffix for path in (tmp_path / "kept").glob("model*")] == [".safetensors"]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_prunable_are_the_linear_layers_but_the_output_layer(architecture, task_folder):
    model, _ = _built(_spec(architecture), tasks.load_task("colours"))
    prunable = zoo.prunable_weights(model)
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    left_out = linear - set(prunable)
    assert len(left_out) == 1
    assert model.get_parameter(left_out.pop()).shape[0] == 3
    assert not [name for name in prunable if "embed" in name or "norm" in name.lower() or name.endswith("bias")]


@pytest.mark.parametrize("architecture", ["vgg16", "vgg16_bn"])
def test_vgg16_has_thirteen_prunable_convolutions_and_reads_digits(architecture, tmp_path):
    task = tasks.load_task("digits")
    model, tokenizer = _built(zoo.ModelSpec(task="digits", architecture=architecture), task)
    zoo.save(model, tokenizer, tmp_path / "kept")
    again, _ = zoo.load(tmp_path / "kept")
    assert [weight.dim() for weight in zoo.prunable_weights(again).values()] == [4] * 13
    batches = prepare(task.validation.first(BATCH), None, 64)
    assert score(model.eval(), batches) == score(again, batches)


def test_the_same_seed_builds_the_same_weights(task_folder):
    task = tasks.load_task("colours")
    (one, _), (two, _) = (_built(_spec("bert"), task) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_checkpoint_folder_is_fine_tuned_with_a_new_head(task_folder, tmp_path, monkeypatch):
    task = tasks.load_task("colours")
    parent, tokenizer = _built(_spec("bert"), task)
    zoo.save(parent, tokenizer, tmp_path / "shelf" / "someone" / "parent")
    monkeypatch.setenv("PRUNECAST_MODELS", str(tmp_path / "shelf"))
    spec = zoo.ModelSpec(task="digits", checkpoint="someone/parent")
    ten_classes = tasks.Task("t", "text", "folder", tuple("0123456789"), task.train, task.validation)
    child, _ = _built(spec, ten_classes)
    assert child.config.num_labels == 10
    for name, weight in zoo.prunable_weights(child).items():
        assert torch.equal(weight, parent.get_parameter(name))
    assert list(zoo.parent_hash(spec)) == ["someone/parent"]


def test_a_pickle_is_refused(tmp_path, task_folder):
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"only pytorch_model\.bin, which is a pickle"):
        zoo.load(tmp_path)
    spec = zoo.ModelSpec(task="colours", checkpoint=str(tmp_path))
    with pytest.raises(UserError, match="safetensors alone"):
        zoo.build(spec, tasks.load_task("colours"))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (zoo.ModelSpec(task="colours", architecture="perceptron"), "'perceptron' is no architecture"),
        (zoo.ModelSpec(task="colours", checkpoint="no/such"), "'no/such' could not be loaded"),
    ],
)
def test_an_unknown_origin_is_one_sentence(spec, sentence, task_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=sentence):
        zoo.build(spec, tasks.load_task("colours"))


def test_the_registry_is_valid_and_its_names_are_offered():
    assert len({spec.architecture for spec in zoo.registry().values() if spec.task == "docstrings"}) >= 4
    with pytest.raises(UserError, match=r"no model 'x' in data/models\.yml.*docstrings_bert"):
        zoo.spec_of("x")


def test_a_misspelt_setting_in_the_registry_is_named(tmp_path, monkeypatch):
    (tmp_path / "models.yml").write_text("m: {task: digits, architecture: vgg16, epoch: 3}")
    monkeypatch.setattr(zoo.paths, "DATA", tmp_path)
    with pytest.raises(UserError, match=r"data/models\.yml: epoch is unknown; known are task,"):
        zoo.registry()
