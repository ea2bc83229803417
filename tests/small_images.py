"""A convolutional classifier with batch norms for the built-in digits, trained in a second."""

from pathlib import Path

import torch
from prunecast.datasets.tasks import load_task
from prunecast.loading import storage
from prunecast.models import inputs, zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.networks.vision import ImageClassifier
from torch import Tensor, nn

EPOCHS = 2
BATCH = 32


def trained_on_digits(folder: Path) -> TrainedModel:
    """The classifier, trained by a plain loop, saved to `folder`."""
    torch.manual_seed(0)
    task = load_task("digits")
    model = ImageClassifier("preresnet8_4", task.classes, (1, 8, 8))
    training = inputs.prepare(task.train, None, 0)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(training)).split(BATCH):
            optimiser.zero_grad()
            model(training.inputs[rows], training.labels[rows])["loss"].backward()
            optimiser.step()
    storage.save(model.eval(), None, folder)
    spec = zoo.ModelSpec(task="digits", architecture="preresnet8_4")
    return TrainedModel("small", spec, task, model, inputs.prepare(task.validation, None, 0), folder, 0)


def pruned_by_hand(subject: TrainedModel, share: float, images: Tensor | None) -> nn.Module:
    """A copy, its weights of smallest magnitude in each layer at zero, its statistics those of one batch of images.

    Statistics are computed norm by norm in a forward pass of its own: the mean and the unbiased variance of what enters
    each norm, over images and places. In that pass a norm divides by the biased variance, as in training.
    """
    copy = ImageClassifier("preresnet8_4", 10, (1, 8, 8))
    copy.load_state_dict(subject.model.state_dict())
    with torch.no_grad():
        for name in subject.weights:
            weight = copy.get_parameter(name)
            smallest = weight.abs().flatten().argsort(stable=True)[: round(share * weight.numel())]
            weight.view(-1)[smallest] = 0
    norms = [module for module in copy.modules() if isinstance(module, nn.BatchNorm2d)]
    variances = {}

    def measure(norm: nn.BatchNorm2d, entering: tuple[Tensor, ...]) -> None:
        by_channel = entering[0].transpose(0, 1).flatten(1)
        norm.running_mean, norm.running_var = by_channel.mean(1), by_channel.var(1, correction=0)
        variances[norm] = by_channel.var(1)

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms] if images is not None else []  # type: ignore[arg-type]
    with torch.no_grad():
        copy.eval()
        if images is not None:
            copy(images)
    for hook in hooks:
        hook.remove()
    for norm, variance in variances.items():
        norm.running_var = variance
    return copy
