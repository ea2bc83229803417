import pytest
import safetensors.torch
import torch
from prunecast.cost import energy, flops, latency, profile
from prunecast.errors import UserError
from prunecast.models.evaluation import Examples
from prunecast.models.vision import ImageClassifier
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

WIDTH, INNER, TOKENS, CLASSES, BATCH = 32, 64, 5, 3, 2
COLUMNS = [
    *("form", "parameters", "parameters_nonzero", "size_bytes", "flops_dense", "flops_effective", "batch"),
    *("latency_ms_p10", "latency_ms_median", "latency_ms_p90", "energy_j", "energy_source", "device", "rounds"),
]


class Sparse(nn.Module):
    """A linear layer whose weight is held as its non-zero values and their places."""

    def __init__(self, layer, layout=torch.sparse_csr):
        super().__init__()
        weight = layer.weight.detach()
        kept = weight.to_sparse_csr() if layout == torch.sparse_csr else weight.to_sparse_bsr((4, 4))
        self.register_buffer("weight", kept)
        self.register_buffer("bias", layer.bias.detach())
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, x):
        rows = x.reshape(-1, self.in_features)
        return (self.weight @ rows.T).T.reshape(*x.shape[:-1], self.out_features) + self.bias


class Halves(nn.Module):
    """Two linear layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("scratch", torch.ones(100), persistent=False)

    def forward(self, x):
        return self.second(self.first(x))


def _bert(attention="sdpa"):
    torch.manual_seed(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=CLASSES, **shape)
    config._attn_implementation = attention
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.full_like(parameter, 1e-3) * (parameter == 0))  # nothing is zero by chance
    return model


def _texts(batch=BATCH):
    return {
        "input_ids": torch.arange(batch * TOKENS).reshape(batch, TOKENS) % 50,
        "attention_mask": torch.ones(batch, TOKENS, dtype=torch.long),
    }


def _bert_flops():
    layer = TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + 2 * TOKENS * TOKENS * WIDTH
    return 2 * (2 * layer + WIDTH * WIDTH + WIDTH * CLASSES)


def _masked(model, share=0.75):
    """Sets that share of the weights of every layer's intermediate product to zero."""
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.intermediate.dense.weight.view(-1)[: int(share * WIDTH * INNER)] = 0
    return model


def _sparse(model, layout=torch.sparse_csr):
    for layer in model.bert.encoder.layer:
        layer.intermediate.dense = Sparse(layer.intermediate.dense, layout)
    return model


def _unmeasured(tmp_path):
    return energy.meter(torch.device("cpu"), powercap=tmp_path)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_operations_of_a_transformer_are_those_counted_by_hand_attention_included(attention):
    assert flops.flops(_bert(attention), _texts()) == (BATCH * _bert_flops(),) * 2


def test_operations_of_gpt2_whose_weights_lie_transposed_are_those_counted_by_hand():
    shape = {"n_embd": WIDTH, "n_layer": 1, "n_head": 2, "n_positions": 16}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=50, num_labels=CLASSES, **shape, **tokens)).eval()
    by_hand = 2 * (TOKENS * 12 * WIDTH * WIDTH + 2 * TOKENS * TOKENS * WIDTH + TOKENS * WIDTH * CLASSES)
    assert flops.flops(model, _texts()) == (BATCH * by_hand,) * 2


def test_operations_of_a_convolutional_net_are_those_counted_by_hand():
    model = ImageClassifier("preresnet20", 10, (3, 32, 32)).eval()
    images = {"pixel_values": torch.zeros(BATCH, 3, 32, 32)}
    large = 32 * 32 * 9 * (3 * 16 + 6 * 16 * 16)
    medium = 16 * 16 * (9 * (16 * 32 + 5 * 32 * 32) + 16 * 32)
    small = 8 * 8 * (9 * (32 * 64 + 5 * 64 * 64) + 32 * 64)
    by_hand = 2 * BATCH * (large + medium + small + 64 * 10)
    assert flops.flops(model, images) == (by_hand, by_hand)
    with torch.no_grad():
        model.network[0].weight[:8] = 0
    assert flops.flops(model, images) == (by_hand, by_hand - BATCH * 32 * 32 * 9 * 3 * 16)


def test_operations_of_grouped_and_transposed_convolutions_are_those_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 2, stride=2))
    by_hand = 2 * (6 * 6 * 8 * 2 * 9 + 6 * 6 * 8 * 6 * 4)
    assert flops.flops(model, {"input": torch.zeros(1, 4, 8, 8)}) == (by_hand, by_hand)


@pytest.mark.parametrize("form", [_masked, lambda model: _sparse(_masked(model))])
def test_a_pruned_model_takes_the_dense_operations_and_effectively_those_of_the_weights_left(form):
    whole = BATCH * _bert_flops()
    saved = BATCH * 2 * 2 * TOKENS * (WIDTH * INNER * 3 // 4)
    assert flops.flops(form(_bert()), _texts()) == (whole, whole - saved)


def test_counting_operations_leaves_no_hook_and_no_setting_behind():
    model, before = _bert(), torch.backends.mha.get_fastpath_enabled()
    flops.flops(model, _texts())
    with pytest.raises(ValueError, match="input_ids"):
        flops.flops(model, {})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_a_masked_model_is_as_large_as_the_dense_one_but_for_its_zeros():
    dense, masked = flops.size(_bert()), flops.size(_masked(_bert()))
    assert dense["parameters"] == dense["parameters_nonzero"] == sum(p.numel() for p in _bert().parameters())
    assert dense["size_bytes"] == len(safetensors.torch.save(_bert().state_dict()))
    assert masked == dense | {"parameters_nonzero": dense["parameters"] - 2 * WIDTH * INNER * 3 // 4}


def test_tied_parameters_count_once_and_what_is_not_saved_takes_no_bytes():
    alone = flops.size(nn.Linear(8, 8, bias=False))
    found = flops.size(Halves())
    assert found["parameters"] == 64
    assert found["size_bytes"] == pytest.approx(alone["size_bytes"], abs=16)  # the name is longer


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_bsr])
def test_a_sparse_model_has_the_parameters_of_the_masked_one_and_the_bytes_of_its_values_and_indices(layout):
    masked, model = flops.size(_masked(_bert())), _sparse(_masked(_bert()), layout)
    sparse = flops.size(model)
    assert {**sparse, "size_bytes": 0} == {**masked, "size_bytes": 0}
    weight = model.bert.encoder.layer[0].intermediate.dense.weight
    parts = (weight.values(), weight.crow_indices(), weight.col_indices())
    change = 2 * (sum(part.nbytes for part in parts) - 4 * WIDTH * INNER)
    names = sparse["size_bytes"] - masked["size_bytes"] - change
    assert 0 < names < 1000  # of four more tensors, in the file's header


def test_layers_without_any_weight_left_have_a_size():
    model = _sparse(_masked(_bert(), share=1))
    assert flops.size(model)["parameters_nonzero"] == flops.size(model)["parameters"] - 2 * WIDTH * INNER


def test_every_round_holds_each_form_once_and_the_order_changes_with_the_seed_alone():
    def order(seed):
        called = []
        calls = {name: lambda name=name: (called.append(name), sum(range(20_000))) for name in "abc"}
        times = latency.latency(calls, 20, seed)
        assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 20)
        assert all((values > 0).all() for values in times.values())
        timed = called[len(calls) * latency.WARM_UP :]
        return [tuple(timed[start : start + 3]) for start in range(0, len(timed), 3)]

    rounds = order(0)
    assert len(rounds) == 20
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1
    assert order(0) == rounds
    assert order(1) != rounds


def test_a_call_too_short_for_the_clock_is_refused_by_name_in_one_sentence():
    with pytest.raises(
        UserError, match=r"^a call of nothing takes \S+ ms, too short for a clock with steps of .*steps$"
    ):
        latency.latency({"something": lambda: sum(range(50_000)), "nothing": lambda: None}, 50)


def test_no_rounds_are_refused():
    with pytest.raises(UserError, match="^rounds is 0; it must be at least 1$"):
        latency.latency({"work": int}, 0)


def test_costs_have_a_row_for_each_form_and_batch_and_the_estimate_says_that_it_is_one(tmp_path):
    forms = {"dense": _bert(), "masked": _masked(_bert()), "sparse": _sparse(_masked(_bert()))}
    meter = energy.meter(torch.device("cpu"), 10, powercap=tmp_path)
    table = profile.costs(forms, {1: _texts(1), 4: _texts(4)}, 5, meter, "cpu: a processor", window_s=0.02)
    assert list(table.columns) == COLUMNS
    assert list(zip(table["form"], table["batch"], strict=True)) == [(form, n) for n in (1, 4) for form in forms]
    assert not table.isna().any(axis=None)
    assert (table["flops_dense"] == _bert_flops()).all()
    effective = table.groupby("form")["flops_effective"].unique()
    assert effective["dense"] == _bert_flops()
    assert effective["masked"] == effective["sparse"] == _bert_flops() - 4 * TOKENS * (WIDTH * INNER * 3 // 4)
    assert (table["latency_ms_p10"] <= table["latency_ms_median"]).all()
    assert (table["latency_ms_median"] <= table["latency_ms_p90"]).all()
    assert (table["latency_ms_p10"] > 0).all()
    assert (table["energy_j"] > 0).all()
    assert set(table["energy_source"]) == {"estimated"}
    assert set(table["device"]) == {"cpu: a processor"}
    assert set(table["rounds"]) == {5}


def test_energy_that_is_not_measured_is_empty_and_nothing_else_is(tmp_path):
    table = profile.costs({"dense": _bert()}, {1: _texts(1)}, 3, _unmeasured(tmp_path), "cpu")
    assert table["energy_j"].dtype == float
    assert table["energy_j"].isna().all()
    assert set(table["energy_source"]) == {"not measured"}
    assert not table.drop(columns="energy_j").isna().any(axis=None)


def test_inputs_are_the_texts_nearest_to_the_median_length():
    lengths = torch.tensor([9, 5, 2, 6, 5])
    ids = torch.arange(5)[:, None].expand(5, 9) + 1
    found = profile.inputs_of(Examples(ids, lengths, torch.zeros(5)), 3)
    assert found["input_ids"].shape == found["attention_mask"].shape == (3, 6)
    assert found["input_ids"][:, 0].tolist() == [2, 5, 4]
    assert found["attention_mask"].sum(1).tolist() == [5, 5, 6]


def test_inputs_of_images_are_the_first_and_are_repeated_where_there_are_too_few():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    found = profile.inputs_of(Examples(images, None, torch.zeros(3)), 4)
    assert list(found) == ["pixel_values"]
    assert found["pixel_values"][:, 0, 0, 0].tolist() == [0, 1, 2, 0]
