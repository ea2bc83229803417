import torch
from prunecast.landscape import stacks
from prunecast.landscape.stacks import by_copy, logits, recalibrate, stacked, unstacked


def test_unstacked_is_the_inverse_of_stacked_and_shares_no_memory(networks):
    alone, together = networks(3)
    again = unstacked(together.state_dict(), 3)
    for state, network in zip(again, alone, strict=True):
        expected = network.state_dict()
        assert list(state) == list(expected)
        assert all(torch.equal(state[name], expected[name]) for name in expected)
        network.load_state_dict(state)  # shapes are those of a network alone
    again[0]["0.weight"].zero_()
    assert together.state_dict()["0.weight"].count_nonzero() == together[0].weight.numel()
    restacked = stacked(unstacked(together.state_dict(), 3))
    assert all(torch.equal(restacked[name], tensor) for name, tensor in together.state_dict().items())


def test_by_copy_has_a_row_for_each_copy(networks):
    alone, together = networks(3)
    for name, parameter in together.named_parameters():
        rows = torch.stack([network.get_parameter(name).flatten() for network in alone])
        assert torch.equal(by_copy(parameter, 3), rows)


def test_logits_are_those_of_the_networks_alone_whatever_the_size_of_a_pass(networks, images, monkeypatch):
    alone, together = networks(3)
    with torch.no_grad():
        expected = torch.stack([network.eval()(images.pixels) for network in alone], dim=1)
    torch.testing.assert_close(logits(together.train(), images.pixels, 3), expected)
    assert not together.training
    monkeypatch.setattr(stacks, "AT_ONCE", 15)  # 5 images, which leaves an incomplete pass
    torch.testing.assert_close(logits(together, images.pixels, 3), expected)


def _statistics(network, images):
    """Mean and unbiased variance of what each norm of a network sees, where each normalises by the whole batch."""
    seen = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs, name=name: seen.__setitem__(name, inputs[0].detach()))
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
    ]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()(images)  # normalises by mean and biased variance of the batch
    network.load_state_dict(state)
    for hook in hooks:
        hook.remove()
    values = {name: inputs.double().transpose(0, 1).flatten(1) for name, inputs in seen.items()}
    return {name: (value.mean(1), value.var(1)) for name, value in values.items()}


def test_recalibrated_statistics_are_those_of_all_images_and_momenta_stay(networks, images):
    alone, together = networks(3)
    expected = [_statistics(network, images.pixels) for network in alone]
    for layer in together.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.25
            layer.running_mean.fill_(50.0)
    recalibrate(together, images.pixels, 3)
    for name, layer in together.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            means, variances = (torch.cat([each[name][which] for each in expected]) for which in (0, 1))
            torch.testing.assert_close(layer.running_mean.double(), means, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(layer.running_var.double(), variances, rtol=1e-4, atol=1e-5)
            assert layer.momentum == 0.25
    assert not any(layer.training for layer in together.modules())
