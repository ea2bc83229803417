"""Several networks of one shape as one `PreResNet` with copies: their states, their images, their logits."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prunecast.networks.batch_norm import statistics_anew
from prunecast.networks.preresnet import PreResNet

State = dict[str, Tensor]
AT_ONCE = 10_000  # images times networks in one forward pass, at most
COUNTER = "num_batches_tracked"


def stacked(states: Sequence[State]) -> State:
    """Put the states of networks of one shape into that of one network.

    Args:
        states: State of each of the M networks.

    Returns:
        The state of a network with M copies: each tensor is theirs, one after the other in the first dimension.
    """
    first = states[0]
    return {name: first[name] if name.endswith(COUNTER) else torch.cat([s[name] for s in states]) for name in first}


def unstacked(state: Mapping[str, Tensor], copies: int) -> list[State]:
    """Take the states of networks out of that of one network: the inverse of `stacked`.

    Args:
        state: State of a network with M copies.
        copies: The number M.

    Returns:
        State of each copy, which shares no memory with `state`.
    """
    parts = {name: [t] * copies if name.endswith(COUNTER) else t.chunk(copies) for name, t in state.items()}
    return [{name: part[copy].clone() for name, part in parts.items()} for copy in range(copies)]


def by_copy(tensor: Tensor, copies: int) -> Tensor:
    """View a parameter or its gradient as (copies, values of a copy)."""
    return tensor.reshape(copies, -1)


def logits(network: PreResNet, images: Tensor, copies: int) -> Tensor:
    """Classify the same images by all copies; batch norms use their running statistics.

    Args:
        network: A network with M copies, in whatever mode; in evaluation mode afterwards.
        images: Images (n, channels, height, width).
        copies: The number M.

    Returns:
        Logits (n, M, classes).
    """
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(part).unflatten(1, (copies, -1)) for part in _repeated(images, copies)])


def recalibrate(network: PreResNet, images: Tensor, copies: int) -> None:
    """Replace the running statistics of all batch norms by those over some images.

    Args:
        network: A network with M copies, changed in place; in evaluation mode afterwards.
        images: Images (n, channels, height, width).
        copies: The number M.
    """
    network.eval()
    with torch.no_grad(), statistics_anew(network):
        for part in _repeated(images, copies):
            network(part)


def _repeated(images: Tensor, copies: int) -> list[Tensor]:
    size = max(AT_ONCE // copies, 1)
    passes = -(-len(images) // size)
    parts = images.chunk(passes)
    return [part.repeat(1, copies, 1, 1).contiguous(memory_format=torch.channels_last) for part in parts]
