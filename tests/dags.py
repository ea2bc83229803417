"""A small random network over a graph, on random examples, for tests."""

import torch
from prunecast.graph import random_dags
from prunecast.graph.dag_losses import DagOnExamples
from prunecast.seeding import generator


def network(iterations=3, examples=40, pixels=6, classes=3, seed=0):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, pixels, generator=draws)
    y = torch.randint(classes, (examples,), generator=draws)
    design = random_dags.random_design(iterations, pixels, classes, generator(seed, "design"))
    return DagOnExamples(random_dags.built(design, seed, "test"), x, y)
