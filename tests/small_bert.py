"""A BERT of two layers with random weights, whose operations are counted by hand, and its masked and sparse forms."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

WIDTH, INNER, TOKENS, CLASSES, BATCH = 32, 64, 5, 3, 2


class Sparse(nn.Module):
    """A linear layer whose weight is stored as its nonzero values and their places."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear, layout: torch.layout = torch.sparse_csr):
        super().__init__()
        weight = layer.weight.detach()
        stored = weight.to_sparse_csr() if layout == torch.sparse_csr else weight.to_sparse_bsr((4, 4))
        self.register_buffer("weight", stored)
        self.register_buffer("bias", layer.bias.detach())
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        return (self.weight @ rows.T).T.reshape(*x.shape[:-1], self.out_features) + self.bias


def bert(attention: str = "sdpa") -> Any:
    """The dense model, without a weight that is zero by chance."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "max_position_embeddings": 16,
        "num_labels": CLASSES,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = BertConfig(**sizes)
    config._attn_implementation = attention
    model: Any = BertForSequenceClassification(config)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.full_like(parameter, 1e-3) * (parameter == 0))
    return model


def texts(batch: int = BATCH) -> dict[str, Tensor]:
    """Inputs of the model, of `TOKENS` tokens each."""
    return {
        "input_ids": torch.arange(batch * TOKENS).reshape(batch, TOKENS) % 50,
        "attention_mask": torch.ones(batch, TOKENS, dtype=torch.long),
    }


def bert_flops() -> int:
    """Operations of the dense model for one text."""
    layer = TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + 2 * TOKENS * TOKENS * WIDTH
    return 2 * (2 * layer + WIDTH * WIDTH + WIDTH * CLASSES)


def masked(model: Any, share: float = 0.75) -> Any:
    """Sets that share of the weights of every layer's intermediate product to zero, in place."""
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.intermediate.dense.weight.view(-1)[: int(share * WIDTH * INNER)] = 0
    return model


def sparse(model: Any, layout: torch.layout = torch.sparse_csr) -> Any:
    """Makes every layer's intermediate product sparse, in place."""
    for layer in model.bert.encoder.layer:
        layer.intermediate.dense = Sparse(layer.intermediate.dense, layout)
    return model
