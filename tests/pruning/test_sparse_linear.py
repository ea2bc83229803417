import pytest
import torch
from prunecast.datasets.tasks import load_task
from prunecast.errors import UserError
from prunecast.models import zoo
from prunecast.models.prunable import prunable_weights
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning import masks
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.sparse_linear import SparseLinear, sparse_kernel
from torch import Tensor, nn

FAMILIES = ("bert", "distilbert", "roberta", "electra", "albert", "deberta-v2", "mpnet", "convbert", "gpt2", "llama")
BATCH = {
    "input_ids": torch.arange(60).view(4, 15) % 23 + 4,
    "attention_mask": (torch.arange(15) < 12).long().expand(4, -1),
}


def _masked(model: nn.Module, share: float) -> nn.Module:
    weights = prunable_weights(model.eval(), classes=3)
    ranking = masks.rank(weights, magnitude, "global")
    counts = masks.pruned_counts(ranking, "percentile", 10 * share)
    masks.Pruner(weights, magnitude, ranking.groups).prune(masks.cut(ranking, counts))
    return model


def _logits(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(**BATCH)["logits"]
    return logits


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 5, 24)])
def test_a_sparse_layer_has_the_outputs_of_the_dense_one(block: int, bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 16, bias=bias)
    layer.weight.data[:8, :16] = 0
    layer.weight.data[layer.weight.abs() < 0.1] = 0
    sparse, x = SparseLinear(layer.weight, layer.bias, block), torch.randn(shape)
    torch.testing.assert_close(sparse(x), layer(x), atol=1e-6, rtol=0)
    stored = int((layer.weight != 0).sum()) if block == 1 else 4 * block * block
    assert sparse.weight.values().numel() == stored


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.usefixtures("task_folder")
def test_a_masked_model_has_the_same_logits_with_sparse_kernels(architecture: str) -> None:
    torch.manual_seed(0)
    spec = zoo.ModelSpec(task="colours", architecture=architecture, layers=2, hidden=16, heads=2)
    model = _masked(zoo.build(spec, load_task("colours"))[0], 0.8)
    dense, names = _logits(model), set(prunable_weights(model, 3))
    sparse = sparse_kernel(model, 3)
    torch.testing.assert_close(_logits(sparse), dense, atol=1e-5, rtol=0)
    assert torch.equal(_logits(model), dense)
    replaced = {f"{name}.weight" for name, layer in sparse.named_modules() if isinstance(layer, SparseLinear)}
    assert replaced <= names
    assert len(replaced) > len(names) / 2
    if architecture != "convbert":  # whose convolutions stay dense
        assert replaced == names


@pytest.mark.usefixtures("task_folder")
def test_blocks_give_the_same_logits() -> None:
    spec = zoo.ModelSpec(task="colours", architecture="bert", layers=1, hidden=16, heads=2)
    model = _masked(zoo.build(spec, load_task("colours"))[0], 0.8)
    torch.testing.assert_close(_logits(sparse_kernel(model, 3, block=8)), _logits(model), atol=1e-5, rtol=0)


def test_a_model_of_convolutions_and_an_odd_layer_are_refused() -> None:
    with pytest.raises(UserError, match="no prunable linear layer"):
        sparse_kernel(ImageClassifier("preresnet20", 3, (3, 32, 32)), 3)
    with pytest.raises(UserError, match="10 by 16 weights cannot be cut into blocks of 8"):
        SparseLinear(torch.ones(10, 16), None, block=8)
