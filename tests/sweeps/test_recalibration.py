import torch
from prunecast.sweeps import recalibration
from torch import nn


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixel_values):
        return self.norm(self.layer(pixel_values))


def test_recalibrated_statistics_are_those_of_the_images_in_however_many_batches():
    torch.manual_seed(0)
    model, images = Normalised().eval(), torch.randn(2 * recalibration.BATCH, 3, 8, 8)
    with torch.no_grad():
        model.layer.weight.mul_(0.1)
        passed = model.layer(images)
    recalibration.recalibrate(model, images)
    assert torch.allclose(model.norm.running_mean, passed.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(model.norm.running_var, passed.var((0, 2, 3)), rtol=1e-2)
    assert not model.norm.training
    assert model.norm.momentum == nn.BatchNorm2d(4).momentum
