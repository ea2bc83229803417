"""From which size a linear layer with 2:4 sparsity is faster than the dense one, on a GPU that has units for it."""

import warnings

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.benchmark import Timer

from prunecast.errors import UserError
from prunecast.progress import track
from prunecast.seeding import seed_everything

SIDES = (256, 512, 768, 1024, 2048, 4096, 8192)  # inputs, and as many outputs, of a layer
VECTORS = (64, 512, 4096, 16384)  # inputs of one call: the batch size times the tokens of an example
CAPABILITY = (8, 0)  # of GPUs, from which they have such units


def break_even(device: torch.device) -> pd.DataFrame:
    """Time square linear layers in bfloat16, dense and with 2:4 sparsity: of each four weights in a row two are zero.

    Args:
        device: A GPU of compute capability 8.0 or above.

    Returns:
        Rows of the table `break_even`: for each side of a layer, number of input vectors and kernel the median and the
        interquartile range of a call's microseconds.

    Raises:
        UserError: The device has no units for this sparsity.

    Source: Mishra et al. (2021), "Accelerating Sparse Deep Neural Networks".
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        raise UserError("2:4 sparsity is timed on a GPU of compute capability 8.0 or above, and this device is none")
    seed_everything(0, "break_even")
    name, timed = torch.cuda.get_device_name(device), []
    for side in track(SIDES, "sizes of layers"):
        weight = torch.randn(side, side, device=device, dtype=torch.bfloat16)
        kernels = {"dense": weight, "2:4": _semi_structured(two_of_four(weight))}
        for vectors in VECTORS:
            inputs = torch.randn(vectors, side, device=device, dtype=torch.bfloat16)
            for kernel, matrix in kernels.items():
                timed.append((side, vectors, kernel, *_microseconds(inputs, matrix), name, "bfloat16"))
    columns = ("features", "vectors", "kernel", "latency_us_median", "latency_us_iqr", "device", "precision")
    return pd.DataFrame(timed, columns=[*columns])


def two_of_four(weight: Tensor) -> Tensor:
    """Weights of which the two of smallest magnitude among every four consecutive inputs are zero.

    Args:
        weight: Weights (out, in), `in` a multiple of four.

    Returns:
        The weights (out, in), half of them zero.
    """
    groups = weight.reshape(len(weight), -1, 4)
    kept = groups.abs().topk(2, dim=-1).indices
    return (groups * torch.zeros_like(groups).scatter_(-1, kept, 1)).reshape(weight.shape)


def _semi_structured(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*prototype stage.*")
        sparse: Tensor = torch.sparse.to_sparse_semi_structured(weight)
    return sparse


def _microseconds(inputs: Tensor, matrix: Tensor) -> tuple[float, float]:
    """Median and interquartile range of the time of one call."""
    timer = Timer("f(x, w)", globals={"f": functional.linear, "x": inputs, "w": matrix})
    measured = timer.blocked_autorange(min_run_time=0.2)
    return 1e6 * measured.median, 1e6 * measured.iqr
