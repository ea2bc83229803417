import pytest
import torch
from prunecast.experiments import small_models

SOME = {
    "BertForSequenceClassification": "bert",
    "Gemma3ForSequenceClassification": "gemma3",  # text and vision configurations inside its own
    "JambaForSequenceClassification": "jamba",  # layers of several kinds
    "LevitForImageClassificationWithTeacher": "levit",  # two output layers
}


@pytest.mark.parametrize("classifier", SOME)
def test_a_small_model_is_small_and_the_same_every_time(classifier):
    first, second = (small_models.small_model(classifier, SOME[classifier]) for _ in range(2))
    weights = dict(first.named_parameters())
    assert sum(weight.numel() for weight in weights.values()) < 1e6
    assert all(torch.equal(weight, weights[name]) for name, weight in second.named_parameters())
    assert first.config.num_labels == small_models.CLASSES
    assert not first.training


def test_all_classifiers_of_the_library_are_listed_also_several_of_one_architecture():
    images = small_models.architectures("image")
    assert [name for name, model_type in images.items() if model_type == "deit"] == [
        "DeiTForImageClassification",
        "DeiTForImageClassificationWithTeacher",
    ]
    assert small_models.architectures("text")["BertForSequenceClassification"] == "bert"


def test_each_letter_is_a_token_between_marks():
    tokenizer = small_models.tokenizer()
    ids = tokenizer("abc")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "a", "b", "c", "[SEP]"]
    assert max(tokenizer.get_vocab().values()) < small_models.TOKENS


def test_the_image_processor_makes_images_of_the_size_of_the_model():
    model = small_models.small_model("ConvNextForImageClassification", "convnext")
    processor = small_models.image_processor(model)
    image = torch.zeros(3, 9, 9, dtype=torch.uint8)
    assert processor(image, return_tensors="pt")["pixel_values"].shape == (1, 3, small_models.SIDE, small_models.SIDE)
