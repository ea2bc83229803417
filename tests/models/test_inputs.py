import numpy as np
import pytest
import torch
from prunecast.datasets.tasks import Split
from prunecast.errors import UserError
from prunecast.models.inputs import Examples, batch_of, batches, device_of, prepare
from small_texts import WORDS, texts, tokenizer

import transformers  # isort: skip

LENGTHS = torch.tensor([3, 7, 3, 5, 7, 3, 2])


def _split(lines: list[str]) -> Split:
    return Split(lines, np.zeros(len(lines), dtype=np.int64))


def test_texts_of_one_group_alone_share_a_batch_and_every_text_is_in_one() -> None:
    examples = Examples(torch.ones(7, 7, dtype=torch.long), LENGTHS, torch.zeros(7), groups=LENGTHS)
    rows = torch.tensor([0, 1, 2, 3, 4, 5])
    found = list(batches(examples, rows))
    assert torch.cat(found).sort().values.tolist() == list(range(6))
    assert [sorted(LENGTHS[rows[batch]].tolist()) for batch in found] == [[3, 3, 3], [5], [7, 7]]
    assert len(list(batches(Examples(examples.inputs, LENGTHS, examples.labels), rows))) == 1


def test_no_batch_has_more_tokens_than_the_limit() -> None:
    lengths = torch.randint(1, 400, (300,), generator=torch.Generator().manual_seed(0))
    examples = Examples(torch.ones(300, 400, dtype=torch.long), lengths, torch.zeros(300))
    for groups in (None, lengths % 2):
        found = list(batches(Examples(examples.inputs, lengths, examples.labels, groups=groups), torch.arange(300)))
        assert torch.cat(found).sort().values.tolist() == list(range(300))
        assert max(len(batch) * int(lengths[batch].max()) for batch in found) <= 2048


def test_a_batch_has_the_mask_and_types_that_its_texts_need() -> None:
    ids = torch.arange(49).view(7, 7)
    types = (ids % 7 > 2).long()
    examples = Examples(ids, LENGTHS, torch.zeros(7), token_types=types, masked=False)
    mixed = batch_of(examples, torch.tensor([0, 3]))
    assert mixed["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert mixed["input_ids"].tolist() == [[0, 1, 2, 3, 4], [21, 22, 23, 24, 25]]
    assert mixed["token_type_ids"].tolist() == [[0, 0, 0, 1, 1]] * 2
    assert "attention_mask" not in batch_of(examples, torch.tensor([0, 2]))
    assert "attention_mask" in batch_of(Examples(ids, LENGTHS, torch.zeros(7)), torch.tensor([0, 2]))
    assert batch_of(examples, torch.tensor([0]), torch.device("meta"))["input_ids"].is_meta


def test_cut_texts_are_counted_and_those_that_just_fit_are_not() -> None:
    lines = [" ".join(WORDS[:words]) for words in (3, 8, 9, 30)]
    prepared = prepare(_split(lines), tokenizer(pad_token="[PAD]"), 10)
    assert prepared.lengths is not None
    assert prepared.lengths.tolist() == [5, 10, 10, 10]
    assert prepared.cut == 2
    assert prepare(_split(lines), tokenizer(pad_token="[PAD]"), 40).cut == 0
    in_python = transformers.ByT5Tokenizer()  # a token for each byte, and the end
    assert prepare(_split(["abcdefghi", "abcdefghij", "ab"]), in_python, 10).cut == 1
    pairs = Split([(line, line) for line in lines], np.zeros(4, dtype=np.int64))
    assert prepare(pairs, tokenizer(pad_token="[PAD]"), 20).cut == 2


def test_texts_that_a_tokenizer_cannot_take_are_named() -> None:
    with pytest.raises(UserError, match="the text ' ' has no tokens"):
        prepare(_split(["w1", " "]), tokenizer("$A"), 10)

    class Boxes:
        pad_token_id = 0

        def __call__(self, *_: object, **__: object) -> None:
            raise ValueError("You must provide corresponding bounding boxes\nand more")

    with pytest.raises(
        UserError, match=r"cannot take texts \(ValueError: You must provide corresponding bounding"
    ) as e:
        prepare(_split(texts(2)), Boxes(), 10)
    assert "\n" not in str(e.value)


def test_the_device_of_a_model_is_that_of_its_weights() -> None:
    assert device_of(torch.nn.Linear(2, 2)).type == "cpu"
    assert device_of(torch.nn.Linear(2, 2, device="meta")).type == "meta"
    assert device_of(torch.nn.BatchNorm1d(2, affine=False)).type == "cpu"
