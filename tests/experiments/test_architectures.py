from dataclasses import replace

import pandas as pd
import pytest
import torch
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.experiments.architectures import compared
from prunecast.experiments.small_models import architectures
from prunecast.forecasting.subjects import open_subject

CHECKED = ("dense", "counted", "pruned", "read_back")
KINDS = {  # a classifier of every kind that needs care of its own
    "AlbertForSequenceClassification": "layers that share their weights",
    "BartForSequenceClassification": "the answer is read at the end token",
    "BigBirdForSequenceClassification": "sparse attention",
    "CanineForSequenceClassification": "characters hashed to embeddings",
    "DebertaV2ForSequenceClassification": "relative positions",
    "FNetForSequenceClassification": "no attention mask",
    "FunnelForSequenceClassification": "pooled sequences",
    "GPT2ForSequenceClassification": "transposed linear layers",
    "MixtralForSequenceClassification": "experts in stacked weights",
    "Qwen3NextForSequenceClassification": "recurrent layers",
    "ReformerForSequenceClassification": "hashed attention",
    "RobertaForSequenceClassification": "positions after the padding index; parts can be removed",
    "T5ForSequenceClassification": "an encoder and a decoder",
    "XLNetForSequenceClassification": "kernels as bare parameters",
    "ZambaForSequenceClassification": "layers of several kinds that share weights",
    "DeiTForImageClassificationWithTeacher": "two output layers",
    "LevitForImageClassification": "batch normalisation in attention",
    "PvtForImageClassification": "no names of classes",
    "ResNetForImageClassification": "convolutions and batch normalisation",
    "Siglip2ForImageClassification": "takes more than pixel values",
    "SwinForImageClassification": "shifted windows",
    "TimmWrapperForImageClassification": "needs a library",
}


def _compared(classifier, opened=open_subject):
    kind = "text" if classifier in architectures("text") else "image"
    return compared(classifier, architectures(kind)[classifier], kind, opened)


@pytest.mark.slow
def test_architectures_of_every_kind_agree_with_plain_torch_or_are_refused_in_one_sentence(tmp_path):
    table = pd.DataFrame([_compared(classifier) for classifier in KINDS])
    tables.write("architectures", table, tmp_path)
    read = tables.read("architectures", tmp_path).set_index("classifier")
    others = read["outcome"][read["outcome"] != "agrees"]
    assert others.to_dict() == {
        "Siglip2ForImageClassification": "refused",
        "TimmWrapperForImageClassification": "not built",
    }
    assert (read.loc[read["outcome"] == "agrees", list(CHECKED)] == "agrees").all(axis=None)
    assert read.loc["RobertaForSequenceClassification", "removed"] == "agrees"


@pytest.mark.parametrize(
    ("classifier", "removed"), [("BertForSequenceClassification", "agrees"), ("ViTForImageClassification", None)]
)
def test_a_text_and_an_image_classifier_agree_with_plain_torch(classifier, removed):
    row = _compared(classifier)
    assert row["outcome"] == "agrees"
    assert [row[column] for column in CHECKED] == ["agrees"] * len(CHECKED)
    assert row["removed"] == removed
    assert row["counted_share"] == 1
    assert row["sentence"] is None
    if classifier == "BertForSequenceClassification":  # attention, feed-forward, pooler; 32 wide, two layers
        assert row["prunable"] == 2 * (4 * 32**2 + 2 * 32 * 64) + 32**2


def test_a_checkpoint_that_is_refused_is_a_row_with_the_sentence():
    def refuses(checkpoint, task):
        raise UserError("no such thing")

    row = _compared("BertForSequenceClassification", refuses)
    assert (row["outcome"], row["sentence"]) == ("refused", "no such thing")


def test_a_model_that_takes_more_than_pixel_values_is_refused():
    row = _compared("Siglip2ForImageClassification")
    assert row["outcome"] == "refused"
    assert "makes pixel_values, pixel_attention_mask, spatial_shapes of images" in row["sentence"]


def test_an_architecture_that_needs_an_absent_library_is_not_built():
    row = _compared("DinatForImageClassification")
    assert row["outcome"] == "not built"
    assert "natten" in row["sentence"]


def _with_another_weight(subject):
    with torch.no_grad():
        next(iter(subject.model.weights.values())).mul_(-1)


def _without_a_layer(subject):
    kept = dict(list(subject.model.weights.items())[1:])
    object.__setattr__(subject.model, "weights", kept)


def _without_a_mask(subject):
    longest = torch.full_like(subject.model.examples.lengths, subject.model.examples.inputs.shape[1])
    examples = replace(subject.model.examples, lengths=longest)
    object.__setattr__(subject.model, "examples", examples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "differing"),
    [
        (_with_another_weight, ["dense", "pruned", "read_back"]),
        (_without_a_layer, ["counted"]),
        (_without_a_mask, ["dense", "pruned"]),
    ],
)
def test_a_wrong_weight_count_or_padding_is_found(wrong, differing):
    def opened(checkpoint, task):
        subject = open_subject(checkpoint, task)
        wrong(subject)
        return subject

    row = _compared("BertForSequenceClassification", opened)
    assert row["outcome"] == "differs"
    assert [column for column in CHECKED if row[column] == "differs"] == differing


def test_the_measured_table_covers_all_classifiers_of_the_library_and_none_differs():
    table = tables.read("architectures", paths.MEASURED / "architectures")
    assert set(table["classifier"]) == {*architectures("text"), *architectures("image")}
    assert not (table["outcome"] == "differs").any()
    assert table.loc[table["outcome"] != "agrees", "sentence"].notna().all()
