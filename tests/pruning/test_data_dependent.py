import pytest
import torch
from prunecast.errors import UserError
from prunecast.models.prunable import prunable_weights
from prunecast.pruning import criteria
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

STEP = 1e-4
EVERY = 7  # of the weights of a layer one in so many is moved


class Classifier(nn.Module):
    """A convolution, one of two groups, a linear layer and GPT-2's on every position, in double precision."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, stride=2)
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.linear = nn.Linear(6, 5)
        self.transposed = Conv1D(3, 5)
        self.double()

    def inputs(self, images):
        """What goes into each layer (n, channels, …), by the name of its weights, and the logits (n, classes)."""
        first = torch.tanh(self.plain(images))
        pixels = torch.tanh(self.grouped(first)).flatten(2)
        hidden = torch.tanh(self.linear(pixels.transpose(1, 2)))
        logits = self.transposed(hidden).mean(1)
        found = [images.flatten(2), first.flatten(2), pixels, hidden.transpose(1, 2)]
        return dict(zip(prunable_weights(self, 0), found, strict=True)), logits

    def forward(self, images, labels):
        return {"loss": functional.cross_entropy(self.inputs(images)[1], labels)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier().eval()


@pytest.fixture
def weights(model):
    return prunable_weights(model, 0)


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [
        {"images": torch.randn(size, 3, 7, 7, dtype=torch.float64), "labels": torch.randint(3, (size,))}
        for size in (5, 5, 2)
    ]


def _loss(model, batches):
    return sum(float(model(**batch)["loss"]) for batch in batches) / len(batches)


@torch.no_grad()
def _slope(model, batches, weight, at, step):
    """Central difference of the mean loss where one weight is moved by plus and minus `step`."""
    flat, losses = weight.view(-1), []
    before = float(flat[at])
    for moved in (before + step, before - step):
        flat[at] = moved
        losses.append(_loss(model, batches))
    flat[at] = before
    return (losses[0] - losses[1]) / 2


def test_saliency_and_taylor_are_the_slopes_of_the_mean_loss(model, weights, batches):
    found = {name: criteria.data_dependent_scores(name, model, weights, batches) for name in ("saliency", "taylor")}
    for layer, weight in weights.items():
        assert found["saliency"][layer].shape == found["taylor"][layer].shape == weight.shape
        for at in range(0, weight.numel(), EVERY):
            slope = abs(_slope(model, batches, weight, at, STEP)) / STEP
            assert float(found["saliency"][layer].view(-1)[at]) == pytest.approx(slope, rel=1e-5, abs=1e-9)
            share = STEP * float(weight.detach().view(-1)[at])  # the weight is scaled, not shifted
            scaled = abs(_slope(model, batches, weight, at, share)) / STEP
            assert float(found["taylor"][layer].view(-1)[at]) == pytest.approx(scaled, rel=1e-5, abs=1e-9)


def test_wanda_is_the_weight_times_the_norm_of_what_it_multiplies(model, weights, batches):
    found = criteria.data_dependent_scores("wanda", model, weights, batches)
    with torch.no_grad():
        seen = [model.inputs(batch["images"])[0] for batch in batches]
    norms = {layer: torch.cat([of[layer] for of in seen]).transpose(0, 1).flatten(1).norm(dim=1) for layer in weights}
    size = {layer: weight.detach().abs() for layer, weight in weights.items()}
    first, second = norms["grouped.weight"].split(2)  # outputs 0 to 2 see the first two channels, 3 to 5 the others
    expected = {
        "plain.weight": size["plain.weight"] * norms["plain.weight"].view(1, 3, 1, 1),
        "grouped.weight": torch.cat(
            [size["grouped.weight"][:3] * first.view(1, 2, 1, 1), size["grouped.weight"][3:] * second.view(1, 2, 1, 1)]
        ),
        "linear.weight": size["linear.weight"] * norms["linear.weight"].view(1, 6),
        "transposed.weight": size["transposed.weight"] * norms["transposed.weight"].view(5, 1),
    }
    assert list(found) == list(weights)
    for layer, score in found.items():
        torch.testing.assert_close(score, expected[layer])


def test_an_input_that_is_always_zero_gives_its_weights_no_wanda_score(model, weights, batches):
    for batch in batches:
        batch["images"][:, 1] = 0
    found = criteria.data_dependent_scores("wanda", model, weights, batches)["plain.weight"]
    assert not found[:, 1].any()
    assert (found[:, [0, 2]] > 0).all()


def test_a_weight_of_zero_goes_first_under_taylor_and_wanda_but_may_be_salient(model, weights, batches):
    with torch.no_grad():
        for weight in weights.values():
            weight.view(-1)[3] = 0
    for name in criteria.DATA_DEPENDENT:
        for score in criteria.data_dependent_scores(name, model, weights, batches).values():
            assert (float(score.view(-1)[3]) == 0) == (name != "saliency")
            assert (score.view(-1)[:3] > 0).all()


def _broken(batches):
    yield batches[0]
    raise RuntimeError("stop")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", criteria.DATA_DEPENDENT)
def test_the_model_is_as_it_was_even_after_an_error(model, weights, batches, name, training):
    model.train(training)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        whole = criteria.data_dependent_scores(name, model, weights, iter(batches))
    with pytest.raises(RuntimeError, match="stop"):
        criteria.data_dependent_scores(name, model, weights, _broken(batches))
    assert model.training == training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    again = criteria.data_dependent_scores(name, model, weights, batches)
    assert all(torch.equal(whole[layer], again[layer]) for layer in weights)
    assert not any(score.requires_grad for score in again.values())


def test_an_unknown_criterion_is_refused_with_those_there_are(model, weights, batches):
    with pytest.raises(UserError, match="no criterion 'luck' that looks at data; there are taylor, saliency, wanda"):
        criteria.data_dependent_scores("luck", model, weights, batches)
