import numpy as np
import pytest
import torch
from prunecast import collect
from prunecast.evaluation import score
from tiny import task_frames


def test_buckets_of_like_length_give_the_score_of_one_text_at_a_time(tiny_models):
    subject = collect.trained("tiny", "a", 0)
    from prunecast import zoo

    model, tokenizer = zoo.load(subject.folder)
    logits = []
    with torch.inference_mode():
        for text in task_frames()["validation"]["text"]:
            logits.append(model(**tokenizer(text, return_tensors="pt"))["logits"][0])
    labels = torch.tensor(task_frames()["validation"]["label"].to_numpy(copy=True))
    found = score(model, subject.batches)
    assert found.accuracy == float((torch.stack(logits).argmax(-1) == labels).double().mean())
    assert found.loss == pytest.approx(float(torch.nn.functional.cross_entropy(torch.stack(logits), labels)), rel=1e-5)
    assert np.sum([len(batch.labels) for batch in subject.batches]) == len(labels)
