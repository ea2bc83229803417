"""Running statistics of batch norms, taken anew where weights have changed since they were taken."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Running means, variances and numbers of batches of all batch norms; empty where there are none.

    Args:
        model: The network, whose own tensors are returned, in its order.
    """
    return [buffer for norm in _norms(model) for buffer in norm.buffers(recurse=False)]


@contextmanager
def statistics_anew(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Inside the context, batch norms take the plain mean of their statistics over all batches that pass.

    What they have been before is forgotten. On leaving, the batch norms are in evaluation mode.

    Args:
        model: The network, changed in place; layers of other kinds keep their mode.

    Yields:
        The batch norms; an empty list where the network has none with running statistics.
    """
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    try:
        yield list(norms)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
