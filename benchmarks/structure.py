"""How many masks of a random network are evaluated a second, many at once against one at a time? Writes `edge_speed`.

    python benchmarks/structure.py    into data/measured/edge_speed

The network has 30 iterations and random weights, and is evaluated on random examples. One at a time, each mask is a
forward pass of the whole network, as the code of the source study has it.
"""

import time
from functools import partial

import numpy as np
import pandas as pd
import torch
from prunecast import paths, tables
from prunecast.graph import edge_masks, random_dags
from prunecast.graph.dag_losses import DagOnExamples
from prunecast.seeding import generator
from prunecast.workflow import provenance

EXAMPLES, MASKS, TURNS = 1000, 200, 3
PIXELS, CLASSES, ITERATIONS = 784, 10, 30


def one_at_a_time(network: DagOnExamples, masks: np.ndarray) -> np.ndarray:
    """Losses of masks (m, edges), each by a forward pass of its own."""
    with torch.inference_mode():
        return np.array([float(network.gated_losses(torch.from_numpy(mask)[None].float())) for mask in masks])


def main() -> None:
    """Measure, write the table with its provenance, and print medians."""
    draws = generator(0, "benchmark")
    design = random_dags.random_design(ITERATIONS, PIXELS, CLASSES, draws)
    edges = len(design.graph.edges)
    torch.manual_seed(0)
    pixels, labels = torch.randn(EXAMPLES, PIXELS), torch.randint(0, CLASSES, (EXAMPLES,))
    network = DagOnExamples(random_dags.built(design, 0, "benchmark"), pixels, labels)
    kinds = {
        "published": edge_masks.at_random(edges, 0.5, MASKS, draws),
        "connected, keep rate 0.5": edge_masks.connected(design.graph, 0.5, MASKS, draws),
        "connected, keep rate 0.9": edge_masks.connected(design.graph, 0.9, MASKS, draws),
        "leave one out": edge_masks.leave_one_out(edges),
    }
    rows = []
    for turn in range(TURNS):
        for kind, masks in kinds.items():
            found, seconds = {}, {}
            for way, losses in (("at once", network.losses), ("one at a time", partial(one_at_a_time, network))):
                started = time.perf_counter()
                found[way] = losses(masks)
                seconds[way] = time.perf_counter() - started
            difference = float(np.abs(found["at once"] - found["one at a time"]).max())
            rows += [(kind, way, edges, len(masks), turn, seconds[way], difference) for way in seconds]
    columns = ["masks", "way", "edges", "count", "turn", "seconds", "largest_difference"]
    table = pd.DataFrame(rows, columns=columns).assign(examples=EXAMPLES, threads=torch.get_num_threads())
    folder = paths.MEASURED / "edge_speed"
    tables.write("edge_speed", table.round({"seconds": 4, "largest_difference": 8}), folder)
    provenance.write(folder, {"command": "python benchmarks/structure.py", "models": {}})
    medians = table.groupby(["masks", "way"])["seconds"].median().unstack()
    print(medians.assign(faster=medians["one at a time"] / medians["at once"]).round(2))


if __name__ == "__main__":
    main()
