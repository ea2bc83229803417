import torch
from prunecast.models import checkpoints
from prunecast.models.evaluation import evaluate
from prunecast.models.zoo import ModelSpec
from tiny import TINY


def test_training_learns_and_the_same_seed_gives_the_same_weights(tiny_models: dict[str, ModelSpec]) -> None:
    one, two, other = (
        checkpoints.trained_classifier("tiny", run, seed) for run, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert evaluate(one.model, one.examples).accuracy > 0.9
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert one.spec is TINY["tiny"]
