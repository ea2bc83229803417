import numpy as np
import pytest
import torch
from prunecast import tables
from prunecast.cost import break_even
from prunecast.errors import UserError

GPU = torch.cuda.is_available() and torch.cuda.get_device_capability() >= break_even.CAPABILITY


def test_of_every_four_weights_the_two_largest_stay() -> None:
    weight = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    pruned = break_even.two_of_four(weight).numpy()
    for row, kept in zip(weight.numpy(), pruned, strict=True):
        for start in range(0, 12, 4):
            four = row[start : start + 4]
            expected = np.where(np.isin(four, sorted(four, key=abs)[2:]), four, 0)
            np.testing.assert_array_equal(kept[start : start + 4], expected)


def test_a_processor_has_no_units_for_it() -> None:
    with pytest.raises(UserError, match="compute capability 8.0"):
        break_even.break_even(torch.device("cpu"))


@pytest.mark.skipif(not GPU, reason="there is no GPU with units for 2:4 sparsity")
def test_layers_are_timed_on_a_gpu(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(break_even, "SIDES", (256,))
    tables.write("break_even", break_even.break_even(torch.device("cuda")), tmp_path)
    assert len(tables.read("break_even", tmp_path)) == 2 * len(break_even.VECTORS)
