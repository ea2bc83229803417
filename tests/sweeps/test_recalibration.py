import torch
from prunecast.models.inputs import Examples
from prunecast.sweeps import recalibration
from torch import Tensor, nn


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.layer(pixel_values))
        return normalised


def test_recalibrated_statistics_are_those_of_the_images_in_however_many_batches() -> None:
    torch.manual_seed(0)
    model, images = Normalised().eval(), torch.randn(2 * recalibration.BATCH, 3, 8, 8)
    with torch.no_grad():
        model.layer.weight.mul_(0.1)
        passed = model.layer(images)
    recalibration.recalibrate(model, Examples(images, None, torch.zeros(len(images))))
    mean, variance = model.norm.running_mean, model.norm.running_var
    assert mean is not None
    assert variance is not None
    assert torch.allclose(mean, passed.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(variance, passed.var((0, 2, 3)), rtol=1e-2)
    assert not model.norm.training
    assert model.norm.momentum == nn.BatchNorm2d(4).momentum
