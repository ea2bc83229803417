"""How fast are many small networks trained at once, and two PreResNet-20 compared? Writes `regimes_speed`.

    python benchmarks/regimes.py    into data/measured/regimes_speed

The same networks, with the same orders of images, are trained one after the other and several at once as one network;
their weights are compared afterwards. Then two PreResNet-20 of width 16 are compared as `prunecast diagnose` does: the
error at 11 points of the line between them, with statistics of batch norms taken anew at each, and CKA.
"""

import time

import pandas as pd
import torch
from prunecast import paths, tables
from prunecast.landscape.connectivity import along, connectivity
from prunecast.landscape.optimisation import Images, Recipe, fit
from prunecast.landscape.similarity import linear_cka
from prunecast.landscape.stacks import logits, recalibrate, stacked, unstacked
from prunecast.networks.preresnet import PreResNet
from prunecast.workflow import provenance

SIZES = {"digits": (4, 1, 8, 32, 320), "cifar10": (16, 3, 16, 4, 320)}  # width, channels, side, networks, images
AT_ONCE = (1, 4, 32)
TURNS = 3
COMPARED, STATISTICS = 2000, 1000  # images


def trained(size: str, at_once: int) -> tuple[float, torch.Tensor]:
    """Train networks for one epoch.

    Args:
        size: Name in `SIZES`.
        at_once: Number of networks that are trained as one.

    Returns:
        Seconds, and the weights of the first convolutions.
    """
    width, channels, side, networks, count = SIZES[size]
    torch.manual_seed(0)
    images = Images(torch.randn(count, channels, side, side), torch.randint(0, 10, (count,)))
    states = [PreResNet(10, 8, width, channels).state_dict() for _ in range(networks)]
    recipe, weights, started = Recipe(1, batch_size=32, learning_rate=0.01), [], time.perf_counter()
    for first in range(0, networks, at_once):
        part = states[first : first + at_once]
        network = PreResNet(10, 8, width, channels, len(part)).to(memory_format=torch.channels_last)
        network.load_state_dict(stacked(part))
        fit(network, images, recipe, [str(first + number) for number in range(len(part))])
        weights += [state["0.weight"] for state in unstacked(network.state_dict(), len(part))]
    return time.perf_counter() - started, torch.stack(weights)


def compared() -> float:
    """Seconds for connectivity and similarity of two PreResNet-20 on `COMPARED` images of 32 by 32 pixels."""
    images = torch.randn(COMPARED, 3, 32, 32)
    labels = torch.randint(0, 10, (COMPARED,))
    network, first, second = (PreResNet(10).to(memory_format=torch.channels_last) for _ in range(3))

    def answers() -> torch.Tensor:
        recalibrate(network, images[:STATISTICS], 1)
        return logits(network, images, 1)[:, 0]

    started = time.perf_counter()
    found = list(along(network, first.state_dict(), second.state_dict(), answers))
    connectivity(torch.stack([(each.argmax(1) != labels).double().mean() for each in found]).numpy())
    linear_cka(found[0].softmax(1).numpy(), found[-1].softmax(1).numpy())
    return time.perf_counter() - started


def main() -> None:
    """Measure, write the table with its provenance, and print medians."""
    rows = []
    for turn in range(TURNS):
        for size, (_, _, _, networks, _) in SIZES.items():
            alone = None
            for at_once in (count for count in AT_ONCE if count <= networks):
                seconds, weights = trained(size, at_once)
                alone = weights if alone is None else alone
                difference = float((weights - alone).abs().max())
                rows.append(("training", size, networks, at_once, turn, seconds, difference))
        rows.append(("comparison", "preresnet20", 2, 1, turn, compared(), 0.0))
    columns = ["task", "size", "networks", "at_once", "turn", "seconds", "largest_difference"]
    table = pd.DataFrame(rows, columns=columns).assign(threads=torch.get_num_threads())
    folder = paths.MEASURED / "regimes_speed"
    tables.write("regimes_speed", table.round({"seconds": 3, "largest_difference": 6}), folder)
    provenance.write(folder, {"command": "python benchmarks/regimes.py", "models": {}})
    print(table.groupby(["task", "size", "at_once"])[["seconds", "largest_difference"]].median())


if __name__ == "__main__":
    main()
