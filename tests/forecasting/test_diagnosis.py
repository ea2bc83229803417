"""The regime of a pair of networks, against plain loops of torch over the points of the line."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.forecasting import diagnosis
from prunecast.forecasting.diagnosis import Diagnosis, diagnose, document, lines
from prunecast.loading import storage
from prunecast.models.inputs import prepare
from prunecast.models.prunable import prunable_weights
from prunecast.networks.vision import ImageClassifier, pixel_values
from regimes_to_learn import table
from small_texts import PAD, SIZES, alone, bert, saved, spread, texts, tokenizer
from torch import Tensor, nn

import transformers  # isort: skip

State = Mapping[str, Tensor]


def images_task(channels: int = 3, count: int = 60) -> Task:
    """Noise of one of three means, some of it with the label of another."""
    draw = np.random.default_rng(0)
    labels = np.sort(np.arange(2 * count) % 3)
    noise = draw.normal(60 + 60 * labels[:, None, None, None], 50, (2 * count, 8, 8, channels))
    order = np.r_[np.arange(0, 2 * count, 2), np.arange(1, 2 * count, 2)]
    labels[::5] = draw.integers(0, 3, len(labels[::5]))
    splits = [Split(noise.clip(0, 255).astype(np.uint8)[part], labels[part]) for part in np.split(order, 2)]
    return Task("squares", "image", "folder", ("a", "b", "c"), splits[0], splits[1])


def masks_of(model: nn.Module, share: float = 0.5) -> dict[str, Tensor]:
    weights = prunable_weights(model, 3)
    return {name: weight.abs() > weight.abs().flatten().quantile(share) for name, weight in weights.items()}


def train(model: Any, images: Tensor, labels: Tensor, seed: int, steps: int, masks: State) -> None:
    """Plain descent by Adam, with masks that stay."""
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    model.train()
    for _ in range(steps):
        rows = torch.randint(0, len(labels), (24,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(pixel_values=images[rows])["logits"], labels[rows]).backward()
        optimiser.step()
        with torch.no_grad():
            for name, mask in masks.items():
                model.get_parameter(name).mul_(mask)
    model.eval()


def write_pair(folder: Path, parent: nn.Module, processor: Any, task: Task) -> tuple[str, str]:
    """Two networks trained from one pruned parent."""
    examples = prepare(task.train, processor, 0)
    train(parent, examples.inputs, examples.labels, 0, 10, {})
    masks = masks_of(parent)
    start = {name: value.clone() for name, value in parent.state_dict().items()}
    for seed in (1, 2):
        parent.load_state_dict(start)
        train(parent, examples.inputs, examples.labels, seed, 12, masks)
        storage.save(parent, processor, folder / f"seed{seed}")
    return str(folder / "seed1"), str(folder / "seed2")


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "DRAWS", 25)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    torch.manual_seed(0)
    model = ImageClassifier("preresnet8_2", 3, (3, 8, 8), [0.0] * 3, [0.5] * 3)
    return write_pair(tmp_path_factory.mktemp("pair"), model, None, images_task())


@pytest.fixture(scope="module")
def found(pair: tuple[str, str]) -> Diagnosis:
    return diagnose(*pair, images_task(), table())


def on_the_line(one: nn.Module, two: nn.Module, answer: Callable[[nn.Module], Tensor]) -> list[Tensor]:
    """Logits at 11 points, by a plain loop; batch norms see all examples at once before each."""
    first, second = ({name: v.clone() for name, v in each.state_dict().items()} for each in (one, two))
    found = []
    for step in range(11):
        share = step / 10
        one.load_state_dict({n: (1 - share) * first[n] + share * second[n] for n in first})
        norms = [module for module in one.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        with torch.no_grad():
            if norms:
                answer(one)
            one.eval()
            found.append(answer(one))
    return found


def kernel_cka(first: Tensor, second: Tensor) -> float:
    """By the kernels of all pairs of examples."""
    n = len(first)
    centre = torch.eye(n, dtype=torch.double) - 1 / n
    k, m = (centre @ (o.double() @ o.double().T) @ centre for o in (first.softmax(1), second.softmax(1)))
    return float((k * m).sum() / (k.norm() * m.norm()))


def agrees(found: Diagnosis, answers: list[Tensor], labels: Any) -> None:
    errors = [float((each.argmax(1) != torch.as_tensor(labels)).double().mean()) for each in answers]
    assert found.errors == pytest.approx(errors, abs=1e-9)
    mean = (errors[0] + errors[10]) / 2
    assert found.lmc == pytest.approx(mean - max(errors, key=lambda error: abs(mean - error)))
    assert found.cka == pytest.approx(kernel_cka(answers[0], answers[10]), abs=1e-4)


def test_a_pair_is_measured_as_by_a_plain_loop_and_put_into_its_regime(pair: tuple[str, str], found: Diagnosis) -> None:
    task = images_task()
    networks = [storage.load(Path(folder))[0] for folder in pair]
    images = pixel_values(task.train.images)
    agrees(found, on_the_line(*networks, lambda network: network(images)["logits"]), task.train.labels)
    assert found.lmc != 0
    assert found.examples == len(task.train)
    assert found.boundaries.lmc == pytest.approx(-0.2, abs=0.01)
    assert found.boundaries.cka == pytest.approx(0.835, abs=0.01)
    below = found.lmc < found.boundaries.lmc
    assert found.regime == ("I" if below else "II-A" if found.cka < found.boundaries.cka else "II-B")
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.common_mask == 1
    assert found.densities == pytest.approx((0.5, 0.5), abs=0.02)
    assert not found.warnings
    assert found.notes[0] == "all 60 training examples are evaluated"


def test_the_text_and_the_document_say_the_same(found: Diagnosis) -> None:
    text = "\n".join(lines(replace(found, warnings=("w",), regime="I", shares={"I": 0.87, "II-A": 0.13, "II-B": 0.0})))
    for part in (
        "note: all 60 training examples are evaluated",
        f"errors {found.errors[0]:.3f} and {found.errors[10]:.3f}, at most {max(found.errors):.3f} between them",
        f"connectivity {found.lmc:.3f}",
        f"CKA {found.cka:.3f} (without bias {found.cka_unbiased:.3f})",
        "common mask 100.0%",
        "warning: w",
        "I 87%, II-A 13%, II-B 0%",
        "regime I (87% of resampled boundaries): the two networks are poorly connected; prune a network that was "
        "trained hotter (fewer epochs, a smaller batch, or a larger rho",
        "small PreResNets for CIFAR-10",
    ):
        assert part in text
    content = json.loads(document(found))
    assert content["format"] == 1
    assert content["lmc"] == found.lmc
    assert content["boundaries"] == {"lmc": found.boundaries.lmc, "cka": found.boundaries.cka}
    assert content["advice"] == found.advice
    assert "colder (more epochs" in replace(found, regime="II-A").advice
    assert "hardly matters" in replace(found, regime="II-B").advice


def test_the_regime_is_uncertain_where_the_pair_lies_on_a_boundary(pair: tuple[str, str], found: Diagnosis) -> None:
    rows, at = table(), found.cka - found.boundaries.cka
    for beyond, low, high in ((0.0, 0.1, 0.9), (0.3, 0.95, 1.0)):
        moved = rows.assign(cka=rows["cka"] + at + beyond)
        shares = diagnose(*pair, images_task(), moved).shares
        assert low <= shares["II-A"] / (shares["II-A"] + shares["II-B"]) <= high


def test_fewer_examples_are_drawn_with_the_seed(pair: tuple[str, str]) -> None:
    task = images_task()
    found = diagnose(*pair, task, table(), examples=30, seed=3)
    drawn = task.train.sample(30, 3)
    networks = [storage.load(Path(folder))[0] for folder in pair]
    images = pixel_values(drawn.images)
    agrees(found, on_the_line(*networks, lambda network: network(images)["logits"]), drawn.labels)
    with pytest.raises(UserError, match="compared on 20 examples or more, not on 19"):
        diagnose(*pair, task, table(), examples=19)
    nothing = Split(task.train.images[:0], task.train.labels[:0])
    of_file = diagnose(*pair, replace(task, train=nothing), table())
    assert of_file.split == "validation"
    assert of_file.notes[0] == "all 60 validation examples are evaluated"
    assert any("here there are none" in note for note in of_file.notes)


def test_a_pair_without_a_common_mask_is_measured_with_a_warning(pair: tuple[str, str], tmp_path: Path) -> None:
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        networks.append(ImageClassifier("fc2_100", 3, (3, 8, 8)).eval())
        storage.save(networks[-1], None, tmp_path / f"dense{seed}")
        weights = prunable_weights(networks[-1], 3)
        for name, mask in masks_of(networks[-1], 0.9).items():
            weights[name].data.mul_(mask)
        storage.save(networks[-1], None, tmp_path / f"other{seed}")
    task = images_task()
    found = diagnose(str(tmp_path / "other1"), str(tmp_path / "other2"), task, table())
    a, b = (network.network[1].weight == 0 for network in networks)
    images = pixel_values(task.train.images)
    agrees(found, on_the_line(*networks, lambda network: network(images)["logits"]), task.train.labels)
    assert "the regimes were learned from pairs that share parent and mask; these two do not" in found.warnings
    assert found.common_mask == pytest.approx(float((~a & ~b).sum() / (~a | ~b).sum()))
    assert any("no more accurate than the majority class" in warning for warning in found.warnings)
    dense = diagnose(str(tmp_path / "dense1"), str(tmp_path / "dense2"), task, table())
    assert any("neither of these is pruned" in warning for warning in dense.warnings)
    assert dense.densities == (1, 1)
    few = table().query("density > 0.5")
    outside = diagnose(*pair, task, few)
    assert outside.warnings == ("the regimes were learned at densities from 0.6 to 0.8, and this pair has 0.5",)


def test_text_classifiers_are_measured_as_each_text_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder, its_tokenizer, sentences = tmp_path / "one", tokenizer(pad_token="[PAD]"), texts(24)
    one = bert()
    spread(one, one.classifier, its_tokenizer, sentences)
    masks = masks_of(one)
    two = transformers.BertForSequenceClassification(one.config).eval()
    two.load_state_dict(one.state_dict())
    for each, noise in ((one, 0.0), (two, 0.15)):
        for name, mask in masks.items():
            weight = each.get_parameter(name)
            weight.data.add_(noise * torch.randn_like(weight)).mul_(mask)
    labels = alone(one, its_tokenizer, sentences).argmax(1).numpy()
    split = Split(sentences, labels)
    task = Task("answers", "text", "folder", ("0", "1", "2"), split, split.first(3))
    found = diagnose(saved(folder, one, its_tokenizer), saved(tmp_path / "two", two, its_tokenizer), task, table())
    agrees(found, on_the_line(one, two, lambda network: alone(network, its_tokenizer, sentences)), labels)
    assert found.errors[0] == 0 < max(found.errors)
    assert found.common_mask == 1


def test_image_classifiers_of_the_library_have_their_statistics_taken_anew(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=3, **sizes))
    model.save_pretrained(tmp_path / "parent")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "parent")
    task = images_task()
    parent, processor = storage.load(tmp_path / "parent")
    checkpoints = write_pair(tmp_path, parent, processor, task)
    found = diagnose(*checkpoints, task, table())
    networks = [storage.load(Path(folder))[0] for folder in checkpoints]
    images = processor.pixel_values(task.train.images)
    agrees(found, on_the_line(*networks, lambda network: network(images)["logits"]), task.train.labels)


def _with(folder: Path, name: str, change: Callable[[Any], None], original: str) -> str:
    model, _ = storage.load(Path(original))
    change(model)
    storage.save(model, None, folder / name)
    return str(folder / name)


def test_pairs_that_have_no_line_between_them_are_refused_in_one_sentence(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    task = images_task()

    def refusal(second: str, first: str = pair[0]) -> str:
        with pytest.raises(UserError) as found:
            diagnose(first, second, task, table())
        assert "\n" not in str(found.value)
        return str(found.value)

    assert "have the same weights" in refusal(pair[0])
    storage.save(ImageClassifier("preresnet8_3", 3, (3, 8, 8)), None, tmp_path / "wide")
    assert "seed1 is a preresnet8_2 and wide a preresnet8_3" in refusal(str(tmp_path / "wide"))
    storage.save(ImageClassifier("preresnet8_2", 2, (3, 8, 8)), None, tmp_path / "two")
    assert "checkpoint 'two' has 2 classes, but task 'squares' has 3" in refusal(str(tmp_path / "two"))
    scaled = _with(tmp_path, "scaled", lambda model: model.standards.update(mean=[0.9] * 3), pair[1])
    assert "seed1 with the weights of scaled answers otherwise than scaled itself" in refusal(scaled)

    def silence(model: Any) -> None:
        model.network[-1].weight.data.zero_()

    silent = _with(tmp_path, "silent", silence, pair[1])
    assert "checkpoint silent gives all examples the same output" in refusal(silent)

    def overflow(model: Any) -> None:
        model.network[-1].weight.data.fill_(float("inf"))

    sums = pixel_values(task.train.images).flatten(1).sum(1).sort().values
    for name, size in (("once", 1.0), ("twice", 2.0)):
        model = ImageClassifier("fc2_100", 3, (3, 8, 8))
        for parameter in model.parameters():
            parameter.data.zero_()
        model.network[1].weight.data[0] = 1  # answers differ for the brightest example alone
        model.network[1].bias.data[0] = -(sums[-1] + sums[-2]) / 2
        model.network[-1].weight.data[0, 0] = size
        storage.save(model, None, tmp_path / name)
    assert "checkpoint once gives all examples the same" in refusal(str(tmp_path / "twice"), str(tmp_path / "once"))

    endless = _with(tmp_path, "endless", overflow, pair[1])
    assert "checkpoint endless holds numbers in network.8.weight that are not finite" in refusal(endless)

    with pytest.raises(UserError, match="no row of the kind epochs"):
        diagnose(*pair, task, table().query("temperature_kind != 'epochs'"))


def test_text_classifiers_of_other_sizes_heads_or_classes_are_refused(tmp_path: Path) -> None:
    its_tokenizer, sentences = tokenizer(pad_token="[PAD]"), texts(30)
    split = Split(sentences, np.arange(30) % 3)
    task = Task("answers", "text", "folder", ("sad", "glad", "odd"), split, split)
    names = {"id2label": {0: "sad", 1: "glad", 2: "odd"}, "label2id": {"sad": 0, "glad": 1, "odd": 2}}
    turned = {"id2label": {0: "glad", 1: "sad", 2: "odd"}, "label2id": {"glad": 0, "sad": 1, "odd": 2}}
    first = saved(tmp_path / "first", bert(**names), its_tokenizer)
    torch.manual_seed(1)
    for name, settings, sentence in (
        (
            "wide",
            names | {"intermediate_size": 64},
            "intermediate.dense.weight, which is 48 by 32 in the one and 64 by",
        ),
        ("deep", names | {"num_hidden_layers": 3}, "encoder.layer.2.*, which is absent in the one and 32 by 32"),
        ("turned", turned, "of checkpoint first are sad, glad, odd, those of turned are glad, sad, odd; a pair has"),
    ):
        config = transformers.BertConfig(**SIZES | {"num_labels": 3, "pad_token_id": PAD} | settings)
        second = saved(tmp_path / name, transformers.BertForSequenceClassification(config), its_tokenizer)
        with pytest.raises(UserError, match=sentence):
            diagnose(first, second, task, table())
    heads = transformers.BertConfig(**SIZES | {"num_labels": 3, "num_attention_heads": 2} | names)
    second = saved(tmp_path / "heads", transformers.BertForSequenceClassification(heads), its_tokenizer)
    with pytest.raises(UserError, match="first with the weights of heads answers otherwise than heads itself"):
        diagnose(first, second, task, table())
