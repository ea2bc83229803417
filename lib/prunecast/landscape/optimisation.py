"""Training of many small networks at once by stochastic gradient descent, plain or sharpness-aware."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prunecast.landscape.stacks import State, by_copy
from prunecast.networks.preresnet import PreResNet
from prunecast.progress import track
from prunecast.seeding import generator

MOMENTUM = 0.9
DECAY = 0.1  # of the learning rate, at each milestone


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images in a step; those left over at the end of an epoch wait for another epoch.
        learning_rate: Learning rate before the first milestone.
        weight_decay: Weight decay of all parameters.
        milestones: Shares of the epochs after which the learning rate is divided by 10.
        rho: Radius of sharpness-aware minimisation (Foret et al., 2021); 0 for plain descent.
        shift: Largest shift of an augmented image, in pixels, with zeros shifted in; 0 for none.
        mirrored: Whether half of the images are mirrored.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    milestones: tuple[float, ...] = (0.5, 0.75)
    rho: float = 0.0
    shift: int = 0
    mirrored: bool = False

    def rate_in(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        return self.learning_rate * DECAY ** sum(epoch >= share * self.epochs for share in self.milestones)


@dataclass(frozen=True)
class Images:
    """Standardised images.

    Attributes:
        pixels: Images (n, channels, height, width).
        labels: Index (n,) of the class of each.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def fit(
    network: PreResNet,
    images: Images,
    recipe: Recipe,
    seeds: Sequence[str],
    masks: Mapping[str, Tensor] | None = None,
    checkpoints: Collection[int] = (),
    bfloat16: bool = False,
) -> dict[int, State]:
    """Train the copies of a network in place, each as if it were trained alone.

    Args:
        network: A network with as many copies as there are `seeds`.
        images: The training set.
        recipe: The settings of the training.
        seeds: What the order of images and the augmentation of each copy are drawn from.
        masks: By the name of a parameter, false where a weight is and stays zero.
        checkpoints: Numbers of epochs after which the state is kept.
        bfloat16: Whether products are computed in bfloat16.

    Returns:
        State of the network by number of epochs.
    """
    draws = [generator(0, "fit", seed) for seed in seeds]
    optimiser = torch.optim.SGD(network.parameters(), recipe.learning_rate, MOMENTUM, weight_decay=recipe.weight_decay)
    masked = [(weight, masks[name]) for name, weight in network.named_parameters() if name in masks] if masks else []
    padded = functional.pad(images.pixels, (recipe.shift,) * 4).permute(0, 2, 3, 1).contiguous()
    network.train()
    kept = {}
    for epoch in track(range(recipe.epochs), f"training {len(seeds)} networks"):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_in(epoch)
        order = np.stack([draw.permutation(len(images)) for draw in draws], axis=1)
        size = min(recipe.batch_size, len(images))
        for start in range(0, len(images) - size + 1, size):
            rows = torch.from_numpy(order[start : start + size])
            batch, labels = _augmented(padded, rows, images, recipe, draws), images.labels[rows]
            _backward(network, batch, labels, bfloat16)
            if recipe.rho:
                shifts = _ascend(network, recipe.rho, len(seeds))
                _backward(network, batch, labels, bfloat16)
                _descend(network, shifts)
            optimiser.step()
            with torch.no_grad():
                for weight, mask in masked:
                    weight.mul_(mask)
        if epoch + 1 in checkpoints:
            kept[epoch + 1] = {
                name: tensor.clone(memory_format=torch.contiguous_format)
                for name, tensor in network.state_dict().items()
            }
    return kept


def _backward(network: PreResNet, batch: Tensor, labels: Tensor, bfloat16: bool) -> None:
    """Gradients of the mean loss of each copy: the sum over copies leaves them apart."""
    network.zero_grad()
    copies = labels.shape[1]
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=bfloat16):
        answers = network(batch).float().unflatten(1, (copies, -1))
    loss = functional.cross_entropy(answers.flatten(0, 1), labels.flatten(), reduction="sum") / len(labels)
    loss.backward()  # type: ignore[no-untyped-call]


@torch.no_grad()
def _ascend(network: PreResNet, rho: float, copies: int) -> list[Tensor]:
    """Move each copy by `rho` along its gradient, and return by how much each parameter was moved."""
    parameters = list(network.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = sum(by_copy(gradient, copies).square().sum(1) for gradient in gradients)
    scale = rho / (torch.as_tensor(norm).sqrt() + 1e-12)
    shifts = [(by_copy(gradient, copies) * scale[:, None]).view_as(gradient) for gradient in gradients]
    for parameter, shift in zip(parameters, shifts, strict=True):
        parameter.add_(shift)
    return shifts


@torch.no_grad()
def _descend(network: PreResNet, shifts: Sequence[Tensor]) -> None:
    for parameter, shift in zip(network.parameters(), shifts, strict=True):
        parameter.sub_(shift)


def _augmented(
    padded: Tensor, rows: Tensor, images: Images, recipe: Recipe, draws: Sequence[np.random.Generator]
) -> Tensor:
    """The batch (b, copies · channels, height, width) of the images in `rows` (b, copies), shifted and mirrored."""
    height, width = images.pixels.shape[2:]
    down, right, mirror = (
        torch.from_numpy(np.stack([draw.integers(0, most, len(rows)) for draw in draws], axis=1))
        for most in (2 * recipe.shift + 1, 2 * recipe.shift + 1, 1 + recipe.mirrored)
    )
    vertical = torch.arange(height)[None, :, None] + down[:, None, :]
    places = torch.arange(width)[None, :, None]
    horizontal = torch.where(mirror[:, None, :] == 1, width - 1 - places, places) + right[:, None, :]
    batch = padded[rows[:, None, None, :], vertical[:, :, None, :], horizontal[:, None, :, :]]
    return batch.flatten(3).permute(0, 3, 1, 2)  # of memory format channels_last already
