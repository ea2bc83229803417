import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import regimes_to_learn
import small_texts
import torch
from prunecast import cli, paths, tables
from prunecast.datasets.tasks import load_task
from prunecast.forecasting import pretrained, subjects
from prunecast.loading import storage
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.sweeps import collect
from prunecast.sweeps.journal import whole_lines
from prunecast.workflow import provenance, studies
from tiny import plan, task_frames

import transformers  # isort: skip  # after prunecast, which lets torchvision load

PREDICT = ["predict", "checkpoint", "--task", "docstrings"]
DIAGNOSE = ["diagnose", "checkpoint", "checkpoint", "--task", "docstrings"]
SENSITIVITY = ["sensitivity", "checkpoint", "--task", "docstrings"]
LAYERS = ["layers", "checkpoint", "--corpus", "text.txt"]
MOODS = ("warm", "cold", "none")  # the classes of the small model, in its order
TURNED = [2, 0, 1]  # and those of the checkpoint below, by their places in it


@pytest.fixture
def checkpoint(subject: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small model as a user's checkpoint in the current folder: its classes have names, in another order."""
    monkeypatch.chdir(tmp_path)
    model, tokenizer = storage.load(subject.folder)
    for parameter in (model.classifier.weight, model.classifier.bias):
        parameter.data = parameter.data[TURNED].clone()
    names = [MOODS[place] for place in TURNED]
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: place for place, name in enumerate(names)}
    storage.save(model, tokenizer, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A CSV file of a user's, with words as labels."""
    frame = task_frames()["validation"]
    moods = frame["label"].map(dict(enumerate(MOODS)))
    pd.DataFrame({"review": frame["text"], "mood": moods}).to_csv(tmp_path / "reviews.csv", index=False)
    return tmp_path / "reviews.csv"


def _accuracy_in_plain_torch(folder: Path, reviews: Path) -> float:
    """Of one text at a time, with the names that the checkpoint gives its classes."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    frame = pd.read_csv(reviews, keep_default_na=False)
    answers = []
    for text in frame["review"]:
        with torch.inference_mode():
            answers.append(model(**tokenizer(text, return_tensors="pt")).logits.argmax().item())
    return float(
        np.mean([model.config.id2label[answer] == mood for answer, mood in zip(answers, frame["mood"], strict=True)])
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "collect"], "no page 'collect'"),
        (["run", "collect_sweeps", "-p", "point=3"], "no parameter 'point'"),
        (["run", "collect_sweeps", "-p", "points=three"], "must be of type int, not 'three'"),
        (["run", "collect_sweeps", "-p", "points=3", "-p", "points=4"], "parameter points is given twice"),
        (["run", "collect_sweeps", "--study", "studies/none.yml"], "cannot be read"),
        (
            ["run", "your_model", "-p", "scope=everything"],
            "page your_model: scope is 'everything'; it is global or layer",
        ),
        (["run", "your_model", "-p", "epsilon=.nan"], "epsilon is nan; it must be a finite number"),
        (["run", "your_model", "-p", "epsilon=2"], "epsilon is 2; it is the accuracy one would"),
        (["run", "your_model", "-p", "checkpoint=no/such/folder"], "there is no checkpoint folder no/such/folder"),
        (["run", "your_model", "-p", "data=none.csv"], "there is no file or folder none.csv"),
        (["run", "your_model", "-p", f"save={paths.DATA}"], "data exists and is not empty; name a new folder"),
        (["keep", f"{paths.STUDIES}/laptop.yml"], "study laptop has no tables"),
        (
            ["collect", "sst2_minilm", "--study", f"{paths.STUDIES}/laptop.yml"],
            "study laptop has no model 'sst2_minilm'",
        ),
        (
            ["predict", "nowhere", "--task", "docstrings", "--epsilon", "2"],
            "epsilon is 2; it is the accuracy one would",
        ),
        (["predict", "no/where", "--task", "colour"], "there is no task 'colour'"),
        (["predict", "no/such/folder", "--task", "docstrings"], "there is no checkpoint folder no/such/folder"),
        (["predict", "checkpoint"], "one of the arguments --task --data is required; see prunecast predict --help"),
        ([*PREDICT, "--data", "reviews.csv"], "argument --data: not allowed with argument --task"),
        ([*PREDICT, "--text", "review"], "--text is about the file of --data, which is not given"),
        ([*PREDICT, "--scope", "both"], "scope is 'both'; it is global or layer"),
        ([*PREDICT, "--device", "gpu"], "device is 'gpu'; it is cpu, cuda"),
        ([*PREDICT, "--examples", "0"], "examples is 0; at least one is needed"),
        ([*PREDICT, "--seed", "-1"], "seed is -1; it is a whole number from 0"),
        ([*PREDICT, "--figure", "f.xyz"], "figure f.xyz has none of the suffixes .eps"),
        ([*PREDICT, "--figure", "missing/f.svg"], "figure missing/f.svg cannot be written: there is no folder missing"),
        ([*PREDICT, "--save", "checkpoint"], "checkpoint exists and is not empty; name a new folder"),
        (["predict", "checkpoint", "--data", "none.csv"], "there is no file or folder none.csv"),
        (["diagnose", "checkpoint", "--task", "docstrings"], "the following arguments are required: CHECKPOINT_B"),
        (["diagnose", "checkpoint", "checkpoint"], "one of the arguments --task --data is required"),
        ([*DIAGNOSE, "--text", "review"], "--text is about the file of --data, which is not given"),
        ([*DIAGNOSE, "--examples", "0"], "examples is 0; at least one is needed"),
        ([*DIAGNOSE, "--epsilon", "0.1"], "unrecognized arguments: --epsilon 0.1"),
        (
            ["diagnose", "checkpoint", "no/such/folder", "--task", "docstrings"],
            "there is no checkpoint folder no/such/folder",
        ),
        (["sensitivity", "checkpoint"], "one of the arguments --task --data is required; see prunecast sensitivity"),
        ([*SENSITIVITY, "--ratios", "0.5", "1"], "ratios is 0.5, 1; each is a share of the weights, between 0 and 1"),
        ([*SENSITIVITY, "--ratios", "half"], "argument --ratios: invalid float value: 'half'"),
        ([*SENSITIVITY, "--epsilon", "2"], "epsilon is 2; it is the accuracy one would"),
        ([*SENSITIVITY, "--figure", "f.xyz"], "figure f.xyz has none of the suffixes .eps"),
        ([*SENSITIVITY, "--text", "review"], "--text is about the file of --data, which is not given"),
        (["sensitivity", "no/such/folder", *SENSITIVITY[2:]], "there is no checkpoint folder no/such/folder"),
        (["run", "energy", "-p", "multiple=0"], "multiple is 0; widths are multiples of 1 or more, such as 8 or 16"),
        (["layers", "checkpoint"], "one of the arguments --task --data --corpus is required; see prunecast layers"),
        ([*LAYERS, "--task", "docstrings"], "argument --task: not allowed with argument --corpus"),
        ([*LAYERS, "--text", "review"], "--text is about the file of --data, which is not given"),
        ([*LAYERS, "--epsilon", "2"], "epsilon is 2; it is the accuracy one would"),
        ([*LAYERS, "--examples", "0"], "examples is 0; at least one is needed"),
        ([*LAYERS, "--save", "checkpoint"], "checkpoint exists and is not empty; name a new folder"),
        ([*LAYERS[:-1], "none.txt"], "there is no file none.txt"),
        ([*LAYERS[:-1], "checkpoint"], "checkpoint is a folder; running text is one file in UTF-8"),
        ([*LAYERS[:-1], "latin.txt"], "latin.txt is not text in UTF-8: byte 3 does not belong to it"),
        ([*LAYERS[:-1], "empty.txt"], "empty.txt is empty"),
        ([*LAYERS[:-1], "novel"], "there is no corpus 'novel': built in is docstrings"),
        (["layers", "no/such/folder", *LAYERS[2:]], "there is no checkpoint folder no/such/folder"),
        (["forecast"], "invalid choice: 'forecast'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_two(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (tmp_path / "text.txt").write_text("some text")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9s".encode("latin-1"))
    (tmp_path / "empty.txt").write_text(" \n")
    assert cli.main(arguments) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.startswith("prunecast: ")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["predict", "--help"],
        [*PREDICT, "--epsilon", "2"],
        ["predict", "/nowhere", "--task", "docstrings"],
        ["diagnose", "--help"],
        ["diagnose", "/nowhere", "/nowhere", "--task", "docstrings"],
        ["sensitivity", "/nowhere", "--task", "docstrings"],
        ["layers", "--help"],
        ["layers", "/nowhere", "--corpus", str(paths.ROOT / "README.md")],
    ],
)
def test_what_needs_no_model_is_answered_at_once(arguments):
    """Within a second of processor time, whatever runs beside it, since nothing imports torch or pandas."""
    script = (
        "import sys; from prunecast import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join({'torch', 'pandas', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert not done.returncode, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_an_interrupt_is_one_sentence_and_status_130(checkpoint, tmp_path):
    os.mkfifo(tmp_path / "slow.csv")
    running = subprocess.Popen(
        [sys.executable, "-m", "prunecast.cli", "predict", checkpoint, "--data", "slow.csv"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a script's background jobs ignore it
    )
    with (tmp_path / "slow.csv").open("w"):  # waits until it reads
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=30)
    assert running.returncode == 130
    assert complaint == "prunecast: interrupted\n"


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "checkpoint", "--task", "colours"],
        ["collect", "docstrings_bert", "--study", f"{paths.STUDIES}/laptop.yml"],
    ],
)
def test_an_interrupt_of_the_work_itself_is_answered_alike(command, checkpoint, task_folder, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subjects, "open_subject", interrupted)
    monkeypatch.setattr(collect, "collect", interrupted)
    assert cli.main(command) == 130
    assert capsys.readouterr().err == "prunecast: interrupted\n"


def test_output_that_nobody_reads_ends_the_command_without_a_word(checkpoint, task_folder, capfd, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["predict", "checkpoint", "--task", "colours", "--scope", "layer"]) == 141
    assert capfd.readouterr().err == ""


def test_a_file_of_ones_own_and_a_checkpoint_with_classes_in_another_order_to_the_saved_model(
    checkpoint, reviews, tmp_path, capsys
):
    """The README's command, against plain torch: the dense accuracy, and that of the saved model."""
    command = ["predict", "checkpoint", "--data", "reviews.csv", "--text", "review", "--label", "mood"]
    assert cli.main([*command, "--epsilon", "0.05", "--save", "out/pruned", "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert said.err == ""
    assert answer["dense_accuracy"] == _accuracy_in_plain_torch(checkpoint, reviews) > 0.9
    assert answer["classes"] == ["none", "warm", "cold"]
    assert any("put into the order of the checkpoint's by name" in note for note in answer["notes"])
    measured = answer["measured"]
    assert measured["saved"] == str(tmp_path / "out" / "pruned")
    assert 0 < measured["ratio"] < 1
    assert measured["evaluations"] > 0
    assert measured["accuracy"] == _accuracy_in_plain_torch(tmp_path / "out" / "pruned", reviews)
    assert measured["accuracy"] >= answer["dense_accuracy"] - 0.05
    again = storage.load(tmp_path / "out" / "pruned")[0]
    share = np.mean(
        [(layer == 0).double().mean() for name, layer in again.named_parameters() if ".query.weight" in name]
    )
    assert share == pytest.approx(measured["ratio"], abs=0.01)
    assert not (tmp_path / "forecast.svg").exists()
    assert not list((tmp_path / "out").glob(".*"))
    assert cli.main([*command, "--save", "out/pruned"]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_the_text_says_what_is_evaluated_and_draws_the_curve(checkpoint, task_folder, capsys, tmp_path):
    assert cli.main(["predict", "checkpoint", "--task", "colours", "--examples", "60", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "note: 60 of 90 validation examples are evaluated, drawn at random with seed 3" in out
    chosen = load_task("colours").validation.sample(60, 3).labels
    assert f"majority class {np.bincount(chosen).max() / 60:.3f}" in out
    assert out.count("recommended in ") == 2
    assert "measured" not in out
    assert out.endswith("forecast.svg\n")
    assert (tmp_path / "forecast.svg").stat().st_size > 1000


@pytest.mark.slow
def test_one_scope_is_forecast_and_measured_where_it_is_named(checkpoint, task_folder, capsys):
    command = ["predict", "checkpoint", "--task", "colours", "--figure", "f.pdf"]
    assert cli.main([*command, "--scope", "global", "--measure"]) == 0
    out = capsys.readouterr().out
    assert "layer" not in re.sub("note: .*|warning: .*", "", out)
    assert re.search(
        r"measured in global scope: prune \d+%, accuracy [\d.]+; .*\n.* probability [\d.]+\ncost [\d.]+ evaluations",
        out,
    )
    assert out.endswith("f.pdf\n")


def test_a_figure_that_cannot_be_drawn_spoils_no_forecast_unless_it_was_asked_for(
    checkpoint, task_folder, tmp_path, capsys
):
    (tmp_path / "forecast.svg").mkdir()
    command = ["predict", "checkpoint", "--task", "colours", "--scope", "layer"]
    assert cli.main(command) == 0
    assert "note: figure forecast.svg was not drawn: " in capsys.readouterr().out
    assert cli.main([*command, "--figure", "/dev/full"]) == 2
    (tmp_path / "full.svg").symlink_to("/dev/full")
    assert cli.main([*command, "--figure", "full.svg"]) == 2
    said = capsys.readouterr()
    assert "recommended in layer scope" in said.out
    assert said.err.endswith("prunecast: figure full.svg was not drawn: No space left on device\n")


def test_the_sensitivity_of_a_checkpoint_is_printed_drawn_and_given_to_programs(checkpoint, reviews, capsys, tmp_path):
    """Against plain torch, for one unit: a checkpoint whose query and other projections are pruned by hand."""
    columns = ["--data", "reviews.csv", "--text", "review", "--label", "mood"]
    command = ["sensitivity", "checkpoint", *columns, "--ratios", "0.9", "0.5"]
    assert cli.main([*command, "--figure", "s.svg"]) == 0
    out = capsys.readouterr().out
    assert "note: all 90 validation examples are evaluated" in out
    assert re.search(r"\ncost \d+ evaluations of all examples; the forecast alone takes [\d.]+; \d+ s\ns.svg\n$", out)
    assert (tmp_path / "s.svg").stat().st_size > 1000
    assert cli.main([*command, "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert said.err == ""
    assert answer["dense_accuracy"] == _accuracy_in_plain_torch(checkpoint, reviews)
    units = {unit["unit"]: unit for unit in answer["units"]}
    assert [one["ratio"] for one in units["bert.encoder.layer.0.attention"]["ratios"]] == [0.5, 0.9]
    assert answer["evaluations"] == 2 * len(units)
    model, tokenizer = storage.load(checkpoint)
    for name, weight in prunable_weights(model, 3).items():
        if ".attention." in name:
            weight.data *= weight.abs() > weight.abs().flatten().kthvalue(round(0.9 * weight.numel()))[0]
    storage.save(model, tokenizer, tmp_path / "by_hand")
    measured = units["bert.encoder.layer.0.attention"]["ratios"][1]["accuracy"]
    assert measured == _accuracy_in_plain_torch(tmp_path / "by_hand", reviews)


@pytest.mark.slow
def test_two_checkpoints_are_diagnosed_on_a_task_and_on_a_file(
    checkpoint, reviews, task_folder, tmp_path, capsys, monkeypatch
):
    """The model of the other tests and a noisy copy of it, with 30 % of the weights of both set to zero."""
    torch.manual_seed(0)
    model, tokenizer = storage.load(checkpoint)
    for name, noise in (("first", 0.0), ("second", 0.02)):
        for weight in prunable_weights(model, 3).values():
            kept = weight.data.abs() > weight.abs().flatten().quantile(0.3) if name == "first" else weight.data != 0
            weight.data.add_(noise * torch.randn_like(weight)).mul_(kept)
        storage.save(model, tokenizer, tmp_path / name)
    measured = tmp_path / "measured"
    monkeypatch.setattr(paths, "MEASURED", measured)
    command = ["diagnose", "first", "second", "--task", "colours"]
    assert cli.main(command) == 2
    assert "there is no regimes.csv in" in capsys.readouterr().err
    tables.write("regimes", regimes_to_learn.table(), measured / "regimes")
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "note: all 180 training examples are evaluated\n" in out
    assert "density 0.700 and 0.700, common mask 100.0%\n" in out
    assert "warning" not in out
    assert re.search(
        r"\nregime (I|II-A|II-B) \(\d+% of resampled boundaries\): the two networks are .*\n.*CIFAR-10", out
    )
    own = ["diagnose", "first", "second", "--data", "reviews.csv", "--text", "review", "--label", "mood", "--json"]
    assert cli.main(own) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert said.err == ""
    assert answer["format"] == 1
    assert answer["checkpoints"] == [str(tmp_path / "first"), str(tmp_path / "second")]
    assert (answer["split"], answer["examples"]) == ("validation", 90)
    for place, name in ((0, "first"), (-1, "second")):
        assert answer["errors"][place] == pytest.approx(1 - _accuracy_in_plain_torch(tmp_path / name, reviews))
    assert len(answer["errors"]) == 11
    assert answer["regime"] in answer["shares"]
    assert cli.main(["diagnose", "first", "first", "--task", "colours"]) == 2
    complaint = capsys.readouterr().err
    assert "have the same weights, and a network compared with itself says nothing" in complaint
    assert complaint.count("\n") == 1


def test_layers_of_a_classifier_and_of_a_language_model(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = small_texts.texts(30)
    small_texts.saved(
        tmp_path / "bert", small_texts.bert(num_hidden_layers=3), small_texts.tokenizer(pad_token="[PAD]")
    )
    moods = [str(number % 3) for number in range(30)]
    pd.DataFrame({"review": lines, "mood": moods}).to_csv("reviews.csv", index=False)
    command = ["layers", "bert", "--data", "reviews.csv", "--text", "review", "--label", "mood", "--examples", "20"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "note: 20 of 30 validation examples are evaluated, drawn at random with seed 0\n" in out
    assert re.search(r"\n +removed +forecast +loss +accuracy  blocks\n +0 +[\d.]+ +[\d.]+  none\n", out)
    assert re.search(r"\ncost \d+ evaluations of all examples, \d+ s\n$", out)

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_positions": 40, "n_embd": 16, "n_layer": 3, "n_head": 2}
    config = transformers.GPT2Config(vocab_size=small_texts.TOKENS, **sizes)
    small_texts.saved(tmp_path / "gpt2", transformers.GPT2LMHeadModel(config), small_texts.tokenizer(bos_token="[CLS]"))
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    keyboard, terminal = pty.openpty()
    monkeypatch.setenv("PRUNECAST_TERMINAL", os.ttyname(terminal))
    command = [
        "layers",
        "gpt2",
        "--corpus",
        "text.txt",
        "--max-length",
        "8",
        "--epsilon",
        "0.9",
        "--save",
        "small",
        "--json",
    ]
    assert cli.main(command) == 0
    os.set_blocking(keyboard, False)
    shown = os.read(keyboard, 1 << 20).decode()
    assert "measuring each block" in shown
    assert "removing 2 blocks" in shown
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert said.err == ""
    assert (answer["kind"], answer["checkpoint"], answer["examples"]) == ("language model", "gpt2", 12)
    assert answer["saved"] == str(tmp_path / "small")
    kept = json.loads((tmp_path / "small" / "config.json").read_text())["n_layer"]
    assert kept == 3 - len(answer["chosen"]["blocks"]) < 3
    command[command.index("0.9")] = "1e-9"
    command[-2:] = ["nothing"]
    assert cli.main(command) == 0
    ending = capsys.readouterr().out.splitlines()[-1]
    assert ending in ("nothing was saved", f"saved to {tmp_path / 'nothing'}")
    assert (tmp_path / "nothing").exists() == ending.startswith("saved")


def test_progress_is_drawn_on_a_terminal(checkpoint, task_folder, monkeypatch):
    keyboard, terminal = pty.openpty()
    monkeypatch.setenv("PRUNECAST_TERMINAL", os.ttyname(terminal))
    assert cli.main(["predict", "checkpoint", "--task", "colours", "--measure", "--json"]) == 0
    os.set_blocking(keyboard, False)
    shown = os.read(keyboard, 1 << 20).decode()
    for label in ("evaluating without pruning", "evaluating examples, layer scope", "sweeping magnitude, layer scope"):
        assert label in shown


def test_a_model_that_cannot_be_saved_is_not_measured(checkpoint, task_folder, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "load", lambda: pytest.fail("it was forecast"))
    monkeypatch.setattr(storage, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert cli.main(["predict", "checkpoint", "--task", "colours", "--save", "pruned"]) == 2
    assert re.search("checkpoint was not saved to .*/pruned: No space left on device", capsys.readouterr().err)


def test_keeping_a_study_copies_its_tables_with_their_provenance(tiny_models, tmp_path, monkeypatch):
    file = tmp_path / "small.yml"
    file.write_text("study: small\npurpose: p\npages: {collect_sweeps: {}}\n")
    found = collect.collect(["tiny"], "small", plan(3))
    for name in ("models", "sweeps", "engines"):
        tables.write(name, getattr(found, name), paths.run("small") / "tables")
    monkeypatch.setattr(paths, "MEASURED", tmp_path / "measured")
    folder = provenance.keep(studies.read_study(file), file)
    for name in ("models.csv", "sweeps.csv", "engines.csv"):
        assert (folder / name).read_bytes() == (paths.run("small") / "tables" / name).read_bytes()
    stated = json.loads((folder / "provenance.json").read_text())
    assert stated["commands"] == ["prunecast run collect_sweeps --study studies/small.yml"]
    assert stated["models"]["tiny"]["weights"] == provenance.record(paths.run("small") / "models" / "tiny")["weights"]
    assert {"torch", "transformers"} <= set(stated["packages"])
    assert stated["wall_time_s"] > 0


def test_one_model_of_a_study_is_collected_as_its_page_would(tiny_models, tmp_path, capsys):
    file = tmp_path / "small.yml"
    file.write_text("study: small\npurpose: p\npages: {collect_sweeps: {models: [tiny], points: 3, exact: [tiny]}}\n")
    assert cli.main(["collect", "tiny", "--study", str(file)]) == 0
    assert "tiny: accuracy 1.000, majority class 0.333" in capsys.readouterr().out
    journal = paths.run("small") / "models" / "tiny" / collect.JOURNAL
    assert len(whole_lines(journal)) == 1 + 3 * 2
    before = journal.read_bytes()
    collect.collect(["tiny"], "small", plan(3, exact=["tiny"], criteria=["magnitude"]))
    assert journal.read_bytes() == before
