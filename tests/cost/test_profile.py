from pathlib import Path

import torch
from prunecast.cost import energy, profile
from prunecast.models.inputs import Examples
from small_bert import INNER, TOKENS, WIDTH, bert, bert_flops, masked, sparse, texts

COLUMNS = [
    *("form", "parameters", "parameters_nonzero", "size_bytes", "flops_dense", "flops_effective", "batch"),
    *("latency_ms_p10", "latency_ms_median", "latency_ms_p90", "energy_j", "energy_source", "device", "rounds"),
]


def test_costs_have_a_row_for_each_form_and_batch_and_the_estimate_says_that_it_is_one(tmp_path: Path) -> None:
    forms = {"dense": bert(), "masked": masked(bert()), "sparse": sparse(masked(bert()))}
    meter = energy.meter(torch.device("cpu"), 10, powercap=tmp_path)
    table = profile.costs(forms, {1: texts(1), 4: texts(4)}, 5, meter, "cpu: a processor", window_s=0.02)
    assert list(table.columns) == COLUMNS
    assert list(zip(table["form"], table["batch"], strict=True)) == [(form, n) for n in (1, 4) for form in forms]
    assert not table.isna().any(axis=None)
    assert (table["flops_dense"] == bert_flops()).all()
    effective = table.groupby("form")["flops_effective"].unique()
    assert effective["dense"] == bert_flops()
    assert effective["masked"] == effective["sparse"] == bert_flops() - 4 * TOKENS * (WIDTH * INNER * 3 // 4)
    assert (table["latency_ms_p10"] <= table["latency_ms_median"]).all()
    assert (table["latency_ms_median"] <= table["latency_ms_p90"]).all()
    assert (table["latency_ms_p10"] > 0).all()
    assert (table["energy_j"] > 0).all()
    assert set(table["energy_source"]) == {"estimated"}
    assert set(table["device"]) == {"cpu: a processor"}
    assert set(table["rounds"]) == {5}


def test_energy_that_is_not_measured_is_empty_and_nothing_else_is(tmp_path: Path) -> None:
    meter = energy.meter(torch.device("cpu"), powercap=tmp_path)
    table = profile.costs({"dense": bert()}, {1: texts(1)}, 3, meter, "cpu")
    assert table["energy_j"].dtype == float
    assert table["energy_j"].isna().all()
    assert set(table["energy_source"]) == {"not measured"}
    assert not table.drop(columns="energy_j").isna().any(axis=None)


def test_inputs_are_the_texts_nearest_to_the_median_length() -> None:
    lengths = torch.tensor([9, 5, 2, 6, 5])
    ids = torch.arange(5)[:, None].expand(5, 9) + 1
    inputs = profile.inputs_of(Examples(ids, lengths, torch.zeros(5)), 3)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (3, 6)
    assert inputs["input_ids"][:, 0].tolist() == [2, 5, 4]
    assert inputs["attention_mask"].sum(1).tolist() == [5, 5, 6]


def test_inputs_of_images_are_the_first_and_are_repeated_where_there_are_too_few() -> None:
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    inputs = profile.inputs_of(Examples(images, None, torch.zeros(3)), 4)
    assert list(inputs) == ["pixel_values"]
    assert inputs["pixel_values"][:, 0, 0, 0].tolist() == [0, 1, 2, 0]
