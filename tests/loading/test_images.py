import json

import numpy as np
import pytest
import torch
from PIL import Image
from prunecast.datasets.user_files import read_data
from prunecast.errors import UserError
from prunecast.forecasting.subjects import open_subject
from prunecast.loading.images import image_classifier
from prunecast.models.evaluation import logits

from transformers import (  # isort: skip  # after prunecast, which lets torchvision load
    AutoImageProcessor,
    BitImageProcessor,
    ConvNextImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

COLOUR = np.random.default_rng(0).integers(0, 256, (5, 9, 12, 3), dtype=np.uint8)
GREY = COLOUR[..., :1]
PROCESSORS = {
    "size": ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]),
    "crop": BitImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}),
    "share of a crop": ConvNextImageProcessor(size={"shortest_edge": 16}),
    "unscaled": ViTImageProcessor(size={"height": 16, "width": 16}, do_normalize=False, do_rescale=False),
}


def _vit(**settings):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes, **settings)).eval()


def _saved(folder, model=None, processor=PROCESSORS["size"]):
    (model or _vit()).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixel_values_are_those_of_the_library_s_own_processor(tmp_path, kind):
    _, images = image_classifier(str(_saved(tmp_path, processor=PROCESSORS[kind])), "vit")
    own = AutoImageProcessor.from_pretrained(tmp_path)
    one_by_one = [own(torch.tensor(image).permute(2, 0, 1), return_tensors="pt")["pixel_values"] for image in COLOUR]
    torch.testing.assert_close(images.pixel_values(COLOUR), torch.cat(one_by_one), rtol=0, atol=0)


def test_size_mean_and_deviation_are_those_of_the_checkpoint(tmp_path):
    _, images = image_classifier(str(_saved(tmp_path)), "vit")
    flat = np.full((2, 16, 16, 3), 51, dtype=np.uint8)
    expected = (0.2 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    torch.testing.assert_close(images.pixel_values(flat), expected[:, None, None].expand(2, 3, 16, 16))


def test_grey_images_are_repeated_to_three_channels(tmp_path):
    _, images = image_classifier(str(_saved(tmp_path)), "vit")
    torch.testing.assert_close(images.pixel_values(GREY), images.pixel_values(GREY.repeat(3, -1)), rtol=0, atol=0)


def test_images_three_pixels_high_are_not_taken_for_channels(tmp_path):
    _, images = image_classifier(str(_saved(tmp_path)), "vit")
    low = np.broadcast_to(np.arange(3, dtype=np.uint8)[:, None, None] * 100, (1, 3, 4, 3))
    values = images.pixel_values(low)
    assert (values[0, :, 0] < values[0, :, -1]).all()  # brighter from top to bottom
    torch.testing.assert_close(values.amin(-1), values.amax(-1))


def test_a_model_for_grey_images_takes_one_channel_and_refuses_three(tmp_path):
    grey = ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.5], image_std=[0.5])
    model, images = image_classifier(str(_saved(tmp_path, _vit(num_channels=1), grey)), "vit")
    values = images.pixel_values(np.full((2, 16, 16, 1), 255, dtype=np.uint8))
    torch.testing.assert_close(values, torch.ones(2, 1, 16, 16))
    assert model(pixel_values=values).logits.shape == (2, 3)
    with pytest.raises(UserError, match="the images have 3 channels, checkpoint 'vit' takes 1"):
        images.pixel_values(COLOUR)


def test_the_model_is_evaluated_with_its_running_statistics(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=3, layer_type="basic")
    own = ResNetForImageClassification(config)
    own.train()(pixel_values=torch.randn(8, 3, 16, 16))  # moves the running statistics away from 0 and 1
    model, images = image_classifier(str(_saved(tmp_path, own)), "resnet")
    values = images.pixel_values(COLOUR)
    with torch.no_grad():
        together = model(pixel_values=values).logits
        alone = torch.cat([own.eval()(pixel_values=value[None]).logits for value in values])
    torch.testing.assert_close(together, alone)


def test_what_is_saved_is_read_back(tmp_path):
    model, images = image_classifier(str(_saved(tmp_path / "a")), "vit")
    model.save_pretrained(tmp_path / "b")
    images.save_pretrained(tmp_path / "b")
    again, same = image_classifier(str(tmp_path / "b"), "vit")
    values = same.pixel_values(COLOUR)
    torch.testing.assert_close(values, images.pixel_values(COLOUR), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(again(pixel_values=values).logits, model(pixel_values=values).logits)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "preprocessor_config.json, which says how images are prepared, does not exist"),
        ("{", "cannot be read as one"),
        (json.dumps({"image_processor_type": "Tree"}), "cannot be read as one"),
    ],
)
def test_a_checkpoint_that_does_not_say_how_images_are_prepared_is_refused(tmp_path, content, sentence):
    path = _saved(tmp_path) / "preprocessor_config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        image_classifier(str(tmp_path), "vit")


def test_an_impossible_size_is_refused_when_images_are_prepared(tmp_path):
    _saved(tmp_path, processor=ConvNextImageProcessor(size={"height": 16, "width": 16}))
    _, images = image_classifier(str(tmp_path), "vit")
    with pytest.raises(UserError, match="its image processor cannot prepare images of 9 by 12 pixels"):
        images.pixel_values(COLOUR)


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    _vit().vit.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"'vit' lacks 2 of the weights of a vit classifier, such as classifier\."):
        image_classifier(str(tmp_path), "vit")


def test_a_text_classifier_is_no_image_classifier(tmp_path):
    _saved(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="could not be loaded as an image classifier"):
        image_classifier(str(tmp_path), "bert")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_folder_of_images_by_class_is_evaluated_as_the_library_does(tmp_path, mode):
    model = _vit()
    _saved(tmp_path / "vit", model)
    own, expected = AutoImageProcessor.from_pretrained(tmp_path / "vit"), []
    for number, pixels in enumerate(COLOUR):
        path = tmp_path / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(path)
    for path in sorted((tmp_path / "images").rglob("*.png")):
        given = own(Image.open(path).convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            expected.append(model(**given).logits)
    subject = open_subject(str(tmp_path / "vit"), read_data(tmp_path / "images"))
    answers = logits(subject.model.model, subject.model.examples)
    torch.testing.assert_close(answers.float(), torch.cat(expected))
    assert subject.model.examples.labels.tolist() == [0, 0, 1, 1, 2]
