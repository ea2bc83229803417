"""Models by name: the registry, building one, saving it as safetensors, loading it back."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from torch import nn

from prunecast import paths
from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.datasets.tasks import Task, load_task
from prunecast.errors import UserError, first_complaint

from prunecast.models.vision import ImageClassifier, VISION_ARCHITECTURES, pixel_standards  # isort: skip

from transformers.utils import logging as transformers_logging  # isort: skip

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

VOCABULARY = 8000
SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


class ModelSpec(BaseModel):
    """One entry of `data/models.yml`: what a model is and how it is trained.

    `checkpoint` is a folder or a hub id to fine-tune; without it the architecture is trained from scratch in the
    size given by `layers`, `hidden` and `heads`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    architecture: str = Field(default="", description="family; read from the checkpoint where there is one")
    checkpoint: str = ""
    layers: PositiveInt = 2
    hidden: PositiveInt = 128
    heads: PositiveInt = 4
    fine_tuned: bool = Field(default=False, description="the checkpoint already does the task: nothing is trained")
    keep_layers: tuple[int, ...] = Field(default=(), description="layers of the checkpoint to keep; empty: all")
    epochs: PositiveFloat = 4
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: PositiveInt = 64
    train_examples: PositiveInt | None = None
    eval_examples: PositiveInt | None = None
    learning_rate_schedule: Literal["linear", "constant"] = Field(default="linear", description="linear has a warm-up")
    standardise: bool = Field(default=False, description="subtract the mean of all pixels, divide by their deviation")
    augment: bool = Field(default=False, description="train on images mirrored and moved at random")
    bfloat16: bool = Field(default=False, description="train in bfloat16; evaluation is float32 unless asked")

    @property
    def initialisation(self) -> Literal["pretrained", "scratch"]:
        """Where training starts."""
        return "pretrained" if self.checkpoint else "scratch"


def registry() -> dict[str, ModelSpec]:
    """All models of `data/models.yml` by name; raises UserError for an entry that is not one."""
    entries = yaml.safe_load((paths.DATA / "models.yml").read_text(encoding="utf-8"))
    try:
        return {name: ModelSpec.model_validate(entry) for name, entry in entries.items()}
    except ValidationError as error:
        raise UserError(f"data/models.yml: {first_complaint(error, ModelSpec)}") from None


def spec_of(name: str) -> ModelSpec:
    """The registry's entry for a model name, or a sentence with the names there are."""
    known = registry()
    if name not in known:
        raise UserError(f"there is no model {name!r} in data/models.yml; there are {', '.join(known)}")
    return known[name]


def build(spec: ModelSpec, task: Task) -> tuple[nn.Module, Any]:
    """A model to be trained on `task`, and its tokenizer (None for images)."""
    if task.kind == "image":
        _, height, width, channels = task.train.inputs.shape  # type: ignore[union-attr]
        standards = pixel_standards(task.train.inputs) if spec.standardise else ((), ())  # type: ignore[arg-type]
        return ImageClassifier(_vision(spec.architecture), task.classes, (channels, height, width), *standards), None
    return _pretrained(spec, task) if spec.checkpoint else _scratch(spec, task)


def save(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write weights as safetensors, with the configuration, and the tokenizer if there is one."""
    model.save_pretrained(folder)  # type: ignore[operator]
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def load(folder: Path) -> tuple[nn.Module, Any]:
    """Read back what `save` wrote: the model in evaluation mode and its tokenizer (None for images).

    Raises UserError where there is no model, where its weights are not those of its architecture, or where its
    tokenizer knows more pieces than the model.
    """
    refuse_pickles(folder)
    config = folder / "config.json"
    if not config.exists():
        raise UserError(f"checkpoint {folder.name} has no config.json, which names its architecture")
    if json.loads(config.read_text(encoding="utf-8")).get("architecture") in VISION_ARCHITECTURES:
        return ImageClassifier.from_pretrained(folder).eval(), None
    model, tokenizer = _from_pretrained(str(folder), folder.name, new_head=False)
    return model.eval(), tokenizer


def refuse_pickles(folder: Path) -> None:
    """Raise UserError for a checkpoint folder without safetensors: pickled weights can run code."""
    if not folder.is_dir():
        raise UserError(f"there is no checkpoint folder {folder}")
    if not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
        found = f"only {pickles[0]}, which is a pickle" if pickles else "no weights"
        raise UserError(f"checkpoint {folder.name} holds {found}; weights are loaded as safetensors alone")


def parent_hash(spec: ModelSpec) -> dict[str, str]:
    """sha256 of the weights a model is fine-tuned from, by their name; nothing for a model trained from scratch."""
    folder = _local(spec.checkpoint) if spec.checkpoint else None
    if folder is None:
        return {}
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return {spec.checkpoint: digest.hexdigest()}


def _local(checkpoint: str) -> Path | None:
    """The folder a checkpoint names, by itself or in PRUNECAST_MODELS; None for one of the hub."""
    shelf = paths.checkpoint_folder()
    candidates = [Path(checkpoint), *([shelf / checkpoint] if shelf else [])]
    return next((folder for folder in candidates if folder.is_dir()), None)


def _pretrained(spec: ModelSpec, task: Task) -> tuple[nn.Module, Any]:
    folder = _local(spec.checkpoint)
    if folder:
        refuse_pickles(folder)
    sized = {} if spec.fine_tuned else {"num_labels": task.classes}
    model, tokenizer = _from_pretrained(str(folder or spec.checkpoint), spec.checkpoint, not spec.fine_tuned, **sized)
    if model.config.num_labels != task.classes:
        raise UserError(
            f"checkpoint {spec.checkpoint!r} tells {model.config.num_labels} classes apart, "
            f"task {task.name!r} has {task.classes}"
        )
    if spec.architecture not in ("", model.config.model_type):
        raise UserError(f"checkpoint {spec.checkpoint!r} is a {model.config.model_type}, not a {spec.architecture}")
    if spec.keep_layers:
        _keep_layers(model, spec.keep_layers)
    return model, tokenizer


def _from_pretrained(source: str, name: str, new_head: bool, **options: Any) -> tuple[Any, Any]:
    """A text classifier and its tokenizer; only `new_head` may leave weights outside the base model untrained."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            source,
            ignore_mismatched_sizes=new_head,  # a head for other classes is replaced, and trained
            output_loading_info=True,
            use_safetensors=True,
            dtype=torch.float32,
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {name!r} could not be loaded as a text classifier ({type(error).__name__}): it is neither "
            "such a folder, nor one in PRUNECAST_MODELS, nor served as safetensors by the hub"
        ) from None
    base = f"{model.base_model_prefix}."
    absent = sorted(
        key for key in loaded["missing_keys"] if not new_head or (key.startswith(base) and "pooler" not in key)
    )
    if absent:
        raise UserError(
            f"checkpoint {name!r} is not a {model.config.model_type}: it lacks {len(absent)} of its weights"
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise UserError(f"checkpoint {name!r}: its tokenizer knows {len(tokenizer)} pieces, its model only {rows}")
    return model, tokenizer


def _keep_layers(model: Any, kept: tuple[int, ...]) -> None:
    depth = model.config.num_hidden_layers
    if max(kept) >= depth:
        raise UserError(f"keep_layers names layer {max(kept)}, but the checkpoint has layers 0 to {depth - 1}")
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                setattr(module, name, nn.ModuleList(child[index] for index in kept))
    model.config.num_hidden_layers = len(kept)


def _scratch(spec: ModelSpec, task: Task) -> tuple[nn.Module, Any]:
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForSequenceClassification

    if spec.architecture not in CONFIG_MAPPING:
        raise UserError(f"{spec.architecture!r} is no architecture of the transformers library")
    tokenizer = _train_tokenizer(task, spec.max_length)
    config = AutoConfig.for_model(
        spec.architecture,
        vocab_size=len(tokenizer),
        num_labels=task.classes,
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=spec.max_length + 2,  # RoBERTa counts positions from the padding index on
        **_sizes(spec),
    )
    return AutoModelForSequenceClassification.from_config(config), tokenizer


def _sizes(spec: ModelSpec) -> dict[str, int]:
    inner = 4 * spec.hidden
    if spec.architecture == "distilbert":
        return {"dim": spec.hidden, "n_layers": spec.layers, "n_heads": spec.heads, "hidden_dim": inner}
    sizes = {
        "hidden_size": spec.hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": inner,
    }
    return sizes | ({"embedding_size": spec.hidden} if spec.architecture == "electra" else {})


def _train_tokenizer(task: Task, max_length: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = list(SPECIAL_TOKENS.values())
    # Byte-level pairs, because training word pieces gives another vocabulary each time.
    pieces = Tokenizer(models.BPE(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    pieces.train_from_iterator(task.train.inputs, trainer)
    ends = [("[CLS]", special.index("[CLS]")), ("[SEP]", special.index("[SEP]"))]
    pieces.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, model_max_length=max_length, padding_side="right", **SPECIAL_TOKENS
    )


def _vision(architecture: str) -> str:
    if architecture not in VISION_ARCHITECTURES:
        raise UserError(f"{architecture!r} is no image architecture: there are {', '.join(VISION_ARCHITECTURES)}")
    return architecture


def task_of(spec: ModelSpec) -> Task:
    """The task of a registry entry, cut to the examples the entry asks for."""
    task = load_task(spec.task)
    return Task(
        task.name,
        task.kind,
        task.source,
        task.label_names,
        task.train.first(spec.train_examples),
        task.validation.first(spec.eval_examples),
    )
