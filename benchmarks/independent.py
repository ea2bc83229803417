"""Recompute an exact curve without prunecast: python benchmarks/independent.py MODEL_FOLDER TASK_FOLDER SWEEPS"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

try:  # a CPU build of torch beside a CUDA build of torchvision lacks two operators, and transformers needs both
    import torchvision  # noqa: F401
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402

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
for scope, groups in {"global": [whole], "layer": whole.split(sizes)}.items():
    orders, found = [group.abs().argsort(stable=True) for group in groups], []
    for percent in range(101):
        pruned = [group.clone() for group in groups]
        for values, order in zip(pruned, orders, strict=True):
            values[order[: round(percent * len(order) / 100)]] = 0
        for layer, part in zip(layers, torch.cat(pruned).split(sizes), strict=True):
            layer.weight.data = part.view_as(layer.weight)
        with torch.inference_mode():
            said = torch.cat([model(**batch).logits.argmax(-1) for batch in inputs])
        found.append(float((said.numpy() == frame["label"].to_numpy()).mean()))
    chosen = f"model == '{folder.name}' and scope == '{scope}' and axis == 'percentile' and criterion == 'magnitude'"
    ours = pd.read_csv(table).query(chosen).sort_values("threshold")["accuracy"].to_numpy()
    print(folder.name, scope, "equal to the last digit:", np.array_equal(found, ours), np.abs(found - ours).max())
