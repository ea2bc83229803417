import torch
from prunecast.experiments.products import multiplied
from torch import nn
from torch.nn import functional


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.linear = nn.Linear(4, 4)
        self.convolution = nn.Conv1d(4, 4, 1)
        self.unused = nn.Linear(4, 4)
        self.experts = nn.Parameter(torch.randn(3, 4, 4))
        self.turned = nn.Parameter(torch.randn(4, 4))
        self.scale = nn.Parameter(torch.ones(4, 4))
        self.column = nn.Parameter(torch.randn(4, 1))

    def forward(self, ids):
        x = self.table(ids)
        x = self.linear(x) * self.scale
        x = self.convolution(x.T).T
        x = torch.bmm(x[:, None], self.experts[torch.tensor([0, 2, 0, 2])])[:, 0]
        x = functional.linear(x, self.turned.t().contiguous())
        return x @ self.column


def test_weights_of_products_are_found_through_views_and_copies_and_nothing_else():
    found = multiplied(Mixed(), {"ids": torch.tensor([1, 2, 3, 4])})
    assert found == {"linear.weight", "convolution.weight", "experts", "turned"}
