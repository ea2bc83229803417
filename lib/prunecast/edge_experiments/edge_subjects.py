"""Networks with gates on their edges, each on training examples and on two sets of others."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from prunecast.capture.captured import capture
from prunecast.datasets.tasks import Split, Task
from prunecast.graph import random_dags
from prunecast.graph.blocks import TransformerBlocks
from prunecast.graph.dag_losses import DagOnExamples
from prunecast.graph.structure import MaskedNetwork
from prunecast.models import inputs
from prunecast.models.checkpoints import trained_classifier
from prunecast.models.language import trained_language_model
from prunecast.seeding import generator


@dataclass(frozen=True)
class Subject:
    """A network on three sets of examples.

    Attributes:
        observed: On training examples, which surrogates may use.
        judged: On those that the true losses are measured on.
        other: On as many others.
    """

    observed: MaskedNetwork
    judged: MaskedNetwork
    other: MaskedNetwork


@dataclass(frozen=True)
class Networks:
    """Random networks over graphs, and the examples that they are trained and evaluated on.

    Attributes:
        iterations: Sizes of the graphs.
        nets: Networks of each size.
        seeds: Seeds of the training and of the masks, for each network.
        fair_seeds: The first ones of them, by which the fair protocol is run as well.
        train_examples: Examples of the training.
        epochs: Passes over them.
        observed_examples: Training examples that losses are observed on.
        judged_examples: Validation examples that they are judged on; as many others are kept aside for the bound.
    """

    iterations: tuple[int, ...]
    nets: int
    seeds: int
    fair_seeds: int
    train_examples: int
    epochs: int
    observed_examples: int
    judged_examples: int


def random_network(task: Task, networks: Networks, size: int, net: int, seed: int) -> Subject:
    """Train a random network over a graph.

    Args:
        task: The task, of images.
        networks: How it is trained and evaluated.
        size: Iterations of its graph.
        net: Number of the graph.
        seed: Seed of the training.

    Returns:
        The network.
    """
    train, labels = _pixels(task.train)
    held, held_labels = _pixels(task.validation)
    name = f"{size}/{net}"
    design = random_dags.random_design(size, train.shape[1], task.classes, generator(net, "design", str(size)))
    network = random_dags.built(design, seed, name)
    some = slice(0, networks.train_examples)
    random_dags.train(network, train[some], labels[some], networks.epochs, seed, name)
    on = partial(DagOnExamples, network)
    judged = networks.judged_examples
    return Subject(
        on(train[: networks.observed_examples], labels[: networks.observed_examples]),
        on(held[:judged], held_labels[:judged]),
        on(held[judged : 2 * judged], held_labels[judged : 2 * judged]),
    )


def residual_network(name: str, run: str, seed: int, examples: int) -> Subject:
    """The branches of an image classifier, which is trained first if need be.

    Args:
        name: Name of the classifier in `data/models.yml`.
        run: Name of the run in whose folder it is saved.
        seed: Seed of its training.
        examples: Number of examples in each of the three sets.

    Returns:
        The network.
    """
    model = trained_classifier(name, run, seed)
    validation = model.task.validation
    other = Split(validation.images[examples : 2 * examples], validation.labels[examples : 2 * examples])
    sets = model.task.train.first(examples), validation.first(examples), other
    return Subject(*(_captured(model.model, split) for split in sets))


def language_model(name: str, run: str, seed: int, blocks: int) -> Subject:
    """The attention heads of a language model, which is trained first if need be.

    Args:
        name: Name in `data/language_models.yml`.
        run: Name of the run in whose folder it is saved.
        seed: Seed of its training.
        blocks: Number of blocks of tokens in each of the three sets; fewer where the training text has fewer.

    Returns:
        The network.
    """
    language = trained_language_model(name, run, seed)
    sets = language.calibration[:blocks], language.blocks[:blocks], language.blocks[blocks : 2 * blocks]
    return Subject(*(TransformerBlocks(language.model, each, "heads") for each in sets))


def _captured(model: nn.Module, split: Split) -> MaskedNetwork:
    prepared = inputs.prepare(split, None, 0)
    return capture(model, prepared.inputs, prepared.labels)


def _pixels(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(split.images.reshape(len(split), -1)).float() / 255
    return pixels, torch.from_numpy(split.labels)
