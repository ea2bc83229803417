"""Training of several networks at once, beside plain torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from prunecast.landscape import optimisation
from prunecast.landscape.optimisation import Images, Recipe, fit
from prunecast.landscape.stacks import stacked, unstacked
from prunecast.seeding import generator
from torch.nn import functional

ONE_EPOCH = Recipe(epochs=1, batch_size=16, learning_rate=0.05, milestones=())
SEEDS = ["a", "b", "c"]


def _masks(states):
    """Masks of the convolutions, different for each network, with the pruned weights of the states set to zero."""
    draw = torch.Generator().manual_seed(0)
    kept = [{n: torch.rand(t.shape, generator=draw) < 0.5 for n, t in s.items() if t.dim() == 4} for s in states]
    return kept, [
        {n: t * mask[n] if n in mask else t for n, t in s.items()} for s, mask in zip(states, kept, strict=True)
    ]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "recipe",
    [ONE_EPOCH, replace(ONE_EPOCH, rho=0.1), replace(ONE_EPOCH, shift=2, mirrored=True)],
    ids=["plain", "sharpness-aware", "augmented"],
)
def test_networks_at_once_end_where_each_alone_does(networks, images, recipe, masked):
    alone, together = networks(3)
    states = [network.state_dict() for network in alone]
    kept = None
    if masked:
        kept, states = _masks(states)
        together.load_state_dict(stacked(states))
    fit(together, images, recipe, SEEDS, stacked(kept) if kept else None)
    for number, (network, state) in enumerate(zip(alone, unstacked(together.state_dict(), 3), strict=True)):
        network.load_state_dict(states[number])
        fit(network, images, recipe, SEEDS[number : number + 1], kept[number] if kept else None)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-4)
            if kept and name in kept[number]:
                assert not state[name][~kept[number][name]].any()
                assert state[name][kept[number][name]].all()


def _batches(seed, count, size):
    """Rows of the batches of the first epoch of images that are not augmented."""
    return torch.from_numpy(generator(0, "fit", seed).permutation(count)).split(size)


def _gradient(network, batch, labels):
    network.zero_grad()
    functional.cross_entropy(network(batch), labels).backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_steps_are_those_of_the_formulas_of_momentum_and_sharpness_aware_minimisation(networks, images, rho):
    (network,), trained = networks(1)
    recipe = Recipe(epochs=1, batch_size=12, learning_rate=0.1, weight_decay=0.01, milestones=(), rho=rho)
    network.train()
    parameters, velocity = list(network.parameters()), None
    for rows in _batches("one", 32, 12)[:2]:  # 8 of the 32 images are left over
        batch, labels = images.pixels[rows], images.labels[rows]
        gradients = _gradient(network, batch, labels)
        if rho:
            before = [parameter.detach().clone() for parameter in parameters]
            length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter += rho * gradient / length
            gradients = _gradient(network, batch, labels)
            with torch.no_grad():
                for parameter, value in zip(parameters, before, strict=True):
                    parameter.copy_(value)
        with torch.no_grad():
            decayed = [g + 0.01 * p for g, p in zip(gradients, parameters, strict=True)]
            velocity = decayed if velocity is None else [0.9 * v + d for v, d in zip(velocity, decayed, strict=True)]
            for parameter, step in zip(parameters, velocity, strict=True):
                parameter -= 0.1 * step
    fit(trained, images, recipe, ["one"])
    for ours, expected in zip(trained.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_each_copy_moves_by_rho_along_its_own_gradient(networks, images):
    alone, together = networks(3)
    batch, labels = images.pixels.repeat(1, 3, 1, 1), images.labels[:, None].repeat(1, 3)
    before = [parameter.detach().clone() for parameter in together.parameters()]
    optimisation._backward(together.train(), batch, labels, bfloat16=False)
    shifts = optimisation._ascend(together, 0.3, 3)
    lengths = torch.cat([shift.reshape(3, -1) for shift in shifts], dim=1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), 0.3))
    for number, network in enumerate(alone):
        own = torch.cat([gradient.flatten() for gradient in _gradient(network.train(), images.pixels, images.labels)])
        moved = torch.cat([shift.reshape(3, -1)[number] for shift in shifts])
        torch.testing.assert_close(moved, 0.3 * own / own.norm(), rtol=1e-2, atol=1e-4)
    optimisation._descend(together, shifts)
    torch.testing.assert_close(list(together.parameters()), before)


def test_the_learning_rate_falls_at_the_milestones():
    recipe = Recipe(epochs=160, learning_rate=0.1)
    rates = [recipe.rate_in(epoch) for epoch in (0, 79, 80, 119, 120, 159)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert Recipe(epochs=4, learning_rate=0.1, milestones=()).rate_in(3) == 0.1


def test_a_rate_that_has_fallen_moves_weights_a_tenth_as_far(networks, images):
    """With one step an epoch and no momentum left, the step after a milestone is a tenth of the same step before it."""
    ends = {}
    for milestones in ((), (0.5,)):
        _, network = networks(1)
        recipe = Recipe(2, 32, 0.01, 0.0, milestones)
        ends[milestones] = fit(network, images, recipe, ["one"], checkpoints=(1, 2))
    first = ends[()][1]["0.weight"]
    assert torch.equal(first, ends[(0.5,)][1]["0.weight"])
    whole, tenth = (ends[milestones][2]["0.weight"] - first for milestones in ((), (0.5,)))
    torch.testing.assert_close(tenth, whole / 10, rtol=1e-2, atol=1e-6)


def _augmented(images, shift, mirrored, seed="one"):
    recipe = Recipe(epochs=1, shift=shift, mirrored=mirrored)
    padded = functional.pad(images.pixels, (shift,) * 4).permute(0, 2, 3, 1).contiguous()
    rows = torch.arange(len(images))[:, None]
    return optimisation._augmented(padded, rows, images, recipe, [generator(0, seed)])


def _expected(image, down, right, mirrored, shift):
    """An image moved up by `down - shift` and left by `right - shift` pixels, with zeros moved in."""
    wide = torch.zeros(image.shape[0], 8 + 4 * shift, 8 + 4 * shift)
    wide[:, 2 * shift : 2 * shift + 8, 2 * shift : 2 * shift + 8] = image
    moved = torch.roll(wide, (shift - down, shift - right), (1, 2))[
        :, 2 * shift : 2 * shift + 8, 2 * shift : 2 * shift + 8
    ]
    return moved.flip(2) if mirrored else moved


def test_augmented_images_are_shifted_with_zeros_and_mirrored(images):
    assert torch.equal(_augmented(images, 0, mirrored=False), images.pixels)
    for shift, mirrored in ((2, False), (0, True), (2, True)):
        seen = set()
        for image, ours in zip(images.pixels, _augmented(images, shift, mirrored), strict=True):
            places = [
                (down, right, mirror)
                for down in range(2 * shift + 1)
                for right in range(2 * shift + 1)
                for mirror in (False, True)
                if torch.equal(ours, _expected(image, down, right, mirror, shift))
            ]
            assert len(places) == 1  # and so at most `shift` pixels
            seen.add(places[0])
        assert {mirror for *_, mirror in seen} == ({False, True} if mirrored else {False})
        assert len({place[:2] for place in seen}) > (10 if shift else 0)
        mirrored_share = np.mean(
            [torch.equal(a, b.flip(2)) for a, b in zip(images.pixels, _augmented(images, 0, True), strict=True)]
        )
        assert 0.2 < mirrored_share < 0.8


def test_each_copy_has_the_images_of_its_own_rows(images):
    recipe = Recipe(epochs=1)
    rows = torch.tensor([[3, 7], [0, 1], [5, 5]])
    draws = [generator(0, seed) for seed in ("one", "two")]
    padded = images.pixels.permute(0, 2, 3, 1).contiguous()
    batch = optimisation._augmented(padded, rows, images, recipe, draws).unflatten(1, (2, -1))
    assert torch.equal(batch, images.pixels[rows])


def test_states_are_kept_after_the_chosen_epochs(networks, images):
    _, network = networks(2)
    kept = fit(network, images, Recipe(4, 16, 0.05), SEEDS[:2], checkpoints={1, 3, 4})
    assert sorted(kept) == [1, 3, 4]
    assert all(torch.equal(kept[4][name], tensor) for name, tensor in network.state_dict().items())
    _, shorter = networks(2)
    fit(shorter, images, Recipe(3, 16, 0.05, milestones=(2 / 3, 1.0)), SEEDS[:2])  # the same rates in three epochs
    assert all(torch.equal(kept[3][name], tensor) for name, tensor in shorter.state_dict().items())
    assert not torch.equal(kept[1]["0.weight"], kept[3]["0.weight"])


def test_the_same_seed_gives_the_same_network_and_another_one_another(networks, images):
    ends = []
    for seeds in (["a", "b"], ["a", "b"], ["a", "c"]):
        _, network = networks(2)
        fit(network, images, replace(ONE_EPOCH, shift=1, mirrored=True), seeds)
        ends.append(unstacked(network.state_dict(), 2))
    (first, second), again, (same, other) = ends
    assert all(torch.equal(first[name], again[0][name]) and torch.equal(second[name], again[1][name]) for name in first)
    assert torch.equal(first["0.weight"], same["0.weight"])
    assert not torch.equal(second["0.weight"], other["0.weight"])


def test_training_learns(networks, images):
    _, network = networks(2)
    fit(network, images, Recipe(8, 16, 0.1), SEEDS[:2])
    answers = network.eval()(images.pixels.repeat(1, 2, 1, 1)).unflatten(1, (2, -1)).argmax(2)
    assert ((answers == images.labels[:, None]).double().mean(0) > 0.6).all()


def test_bfloat16_rounds_the_products_and_not_the_weights(networks, images):
    ends = []
    for bfloat16 in (False, True):
        _, network = networks(1)
        fit(network, images, replace(ONE_EPOCH, batch_size=32), ["one"], bfloat16=bfloat16)
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
        ends.append(network[0].weight.detach().clone())
    torch.testing.assert_close(*ends, rtol=0.05, atol=0.01)
    assert not torch.equal(*ends)


def test_a_batch_larger_than_the_images_is_all_of_them(networks, images):
    few = Images(images.pixels[:6], images.labels[:6])
    ends = []
    for size in (6, 64):
        _, network = networks(1)
        fit(network, few, replace(ONE_EPOCH, batch_size=size), ["one"])
        ends.append(network[0].weight.detach().clone())
    assert torch.equal(*ends)
