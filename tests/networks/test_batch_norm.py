import torch
from prunecast.networks.batch_norm import statistics_anew
from torch import nn


def _network():
    norms = nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=None), nn.BatchNorm2d(3, momentum=0.1)
    network = nn.Sequential(*norms, nn.Dropout(0.5), nn.BatchNorm2d(3, track_running_stats=False))
    network[0].running_mean.fill_(99.0)
    return network.eval()


def test_statistics_are_the_plain_mean_over_batches_and_momenta_come_back():
    network = _network()
    batches = torch.randn(3, 6, 3, 4, 4) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1, 1, 1) + 7
    with statistics_anew(network) as norms:
        assert norms == [network[0], network[1], network[2]]
        assert not network[3].training  # a dropout layer stays off
        for batch in batches:
            network(batch)
    first = network[0]
    by_channel = batches.transpose(1, 2).flatten(2)  # (batch, channel, values)
    torch.testing.assert_close(first.running_mean, by_channel.mean(2).mean(0))
    torch.testing.assert_close(first.running_var, by_channel.var(2).mean(0))
    assert [norm.momentum for norm in norms] == [0.3, None, 0.1]
    assert not any(norm.training for norm in norms)


def test_momenta_come_back_after_an_error():
    network = _network()
    try:
        with statistics_anew(network):
            network(torch.zeros(1, 2, 3, 3))  # a channel is missing
    except RuntimeError:
        pass
    assert [layer.momentum for layer in network[:3]] == [0.3, None, 0.1]
    assert not network[0].training


def test_a_network_without_running_statistics_yields_no_norm():
    with statistics_anew(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))) as norms:
        assert norms == []
