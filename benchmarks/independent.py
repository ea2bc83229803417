"""Recompute exact curves of a model without prunecast, and compare them with those of a table.

    python benchmarks/independent.py MODEL_FOLDER TASK_FOLDER SWEEPS

The model and the task are folders, SWEEPS is a file sweeps.csv; the magnitude curves of both scopes are compared.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

try:  # a CPU build of torch beside a CUDA build of torchvision lacks two operators, and transformers needs both
    import torchvision  # noqa: F401
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        operators.define(  # type: ignore[no-untyped-call]
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )

from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, task, table = map(Path, sys.argv[1:])
model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
frame = pd.read_parquet(task / "validation.parquet")
options = {
    "padding": True,
    "truncation": True,
    "max_length": 64,
    "return_token_type_ids": False,
    "return_tensors": "pt",
}
batches = [frame.iloc[start : start + 32] for start in range(0, len(frame), 32)]
inputs = [tokenizer(list(batch["text"]), **options) for batch in batches]
linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
output = [module for module in linear if module.out_features == model.num_labels][-1]
layers = [module for module in linear if module is not output]
whole = torch.cat([layer.weight.detach().flatten() for layer in layers])
sizes = [layer.weight.numel() for layer in layers]
for scope, groups in {"global": [whole], "layer": torch.split(whole, sizes)}.items():
    orders = [group.abs().argsort(stable=True) for group in groups]
    accuracies = []
    for percent in range(101):
        pruned = [group.clone() for group in groups]
        for values, order in zip(pruned, orders, strict=True):
            values[order[: round(percent * len(order) / 100)]] = 0
        for layer, part in zip(layers, torch.split(torch.cat(pruned), sizes), strict=True):
            layer.weight.data = part.view_as(layer.weight)
        with torch.inference_mode():
            predicted = torch.cat([model(**batch).logits.argmax(-1) for batch in inputs])
        accuracies.append(float((predicted.numpy() == frame["label"].to_numpy()).mean()))
    chosen = f"model == '{folder.name}' and scope == '{scope}' and axis == 'percentile' and criterion == 'magnitude'"
    curve = pd.read_csv(table).query(chosen).sort_values("threshold")["accuracy"].to_numpy()
    difference = np.abs(np.array(accuracies) - curve).max()
    print(folder.name, scope, "equal to the last digit:", np.array_equal(accuracies, curve), difference)
