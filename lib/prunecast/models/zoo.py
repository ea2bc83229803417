"""Models by name: the registry, and how a model is built."""

import hashlib
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from torch import nn

from prunecast import paths
from prunecast.datasets.tasks import Task, load_task
from prunecast.errors import UserError, first_complaint
from prunecast.loading.folders import local_folder, refuse_pickles
from prunecast.loading.text import text_classifier
from prunecast.models.transformer_blocks import keep_blocks
from prunecast.networks.vision import ImageClassifier, pixel_standards

VOCABULARY = 8000  # tokens of a tokenizer that is trained with its model
SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


class ModelSpec(BaseModel):
    """One entry of `data/models.yml`: what a model is and how it is trained.

    `checkpoint` is a folder or a hub id to fine-tune; without it the architecture is trained from scratch in the
    size given by `layers`, `hidden` and `heads`. What a field means is in its description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    architecture: str = Field(default="", description="family; read from the checkpoint where there is one")
    family: str = Field(default="", description="models that are left out together; empty: the architecture")
    base: str = Field(default="", description="the entry that this one repeats under other training settings")
    checkpoint: str = ""
    layers: PositiveInt = 2
    hidden: PositiveInt = 128
    heads: PositiveInt = 4
    fine_tuned: bool = Field(
        default=False, description="the checkpoint was trained on the task by others; nothing is trained here"
    )
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
    augment: bool = Field(default=False, description="train on images mirrored and shifted at random")
    bfloat16: bool = Field(default=False, description="train in bfloat16; evaluation has a precision of its own")

    @property
    def training_settings(self) -> str:
        """All fields that a trained model depends on, as JSON: without `family` and `base`, which only group models."""
        return self.model_dump_json(exclude={"family", "base"})

    @property
    def initialisation(self) -> Literal["pretrained", "scratch"]:
        """Starting point of training: the weights of a checkpoint, or random ones."""
        return "pretrained" if self.checkpoint else "scratch"


@cache
def registry() -> dict[str, ModelSpec]:
    """Read the entries of `data/models.yml` by name.

    Raises:
        UserError: An entry has an unknown, missing or invalid field.
    """
    entries = yaml.safe_load((paths.DATA / "models.yml").read_text(encoding="utf-8"))
    try:
        return {name: ModelSpec.model_validate(entry) for name, entry in entries.items()}
    except ValidationError as error:
        raise UserError(f"data/models.yml: {first_complaint(error, ModelSpec)}") from None


def spec_of(name: str) -> ModelSpec:
    """Return the entry of the registry for a name.

    Raises:
        UserError: The name is unknown; the sentence lists those there are.
    """
    known = registry()
    if name not in known:
        raise UserError(f"there is no model {name!r} in data/models.yml; there are {', '.join(known)}")
    return known[name]


def build(spec: ModelSpec, task: Task) -> tuple[nn.Module, Any]:
    """Build a model to be trained on a task.

    Args:
        spec: Entry of the registry.
        task: The task, whose train texts the tokenizer of a model from scratch is trained on.

    Returns:
        The model on the processor, and its tokenizer (None for images).

    Raises:
        UserError: The architecture is unknown, the checkpoint cannot be loaded, or the checkpoint does not fit the
            task or the entry.
    """
    if task.kind == "image":
        _, height, width, channels = task.train.images.shape
        standards = pixel_standards(task.train.images) if spec.standardise else ((), ())
        return ImageClassifier(spec.architecture, task.classes, (channels, height, width), *standards), None
    return _pretrained(spec, task) if spec.checkpoint else _scratch(spec, task)


def parent_hash(spec: ModelSpec) -> dict[str, str]:
    """The sha256 of the local weights from which a model is fine-tuned, by their name; empty where there are none."""
    folder = local_folder(spec.checkpoint) if spec.checkpoint else None
    if folder is None:
        return {}
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return {spec.checkpoint: digest.hexdigest()}


def _pretrained(spec: ModelSpec, task: Task) -> tuple[nn.Module, Any]:
    folder = local_folder(spec.checkpoint)
    if folder:
        refuse_pickles(folder)
    sized = {} if spec.fine_tuned else {"num_labels": task.classes}
    model, tokenizer = text_classifier(str(folder or spec.checkpoint), spec.checkpoint, not spec.fine_tuned, **sized)
    if model.config.num_labels != task.classes:
        raise UserError(
            f"checkpoint {spec.checkpoint!r} has {model.config.num_labels} classes, "
            f"but task {task.name!r} has {task.classes}"
        )
    if spec.architecture not in ("", model.config.model_type):
        raise UserError(f"checkpoint {spec.checkpoint!r} is a {model.config.model_type}, not a {spec.architecture}")
    if spec.keep_layers:
        _keep_layers(model, spec.keep_layers)
    return model, tokenizer


def _keep_layers(model: Any, layers: tuple[int, ...]) -> None:
    depth = model.config.num_hidden_layers
    if max(layers) >= depth:
        raise UserError(f"keep_layers names layer {max(layers)}, but the checkpoint has layers 0 to {depth - 1}")
    keep_blocks(model, layers)


def _scratch(spec: ModelSpec, task: Task) -> tuple[nn.Module, Any]:
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForSequenceClassification

    if spec.architecture not in CONFIG_MAPPING:
        raise UserError(f"{spec.architecture!r} is not an architecture of the transformers library")
    tokenizer = _train_tokenizer(task, spec.max_length)
    config = AutoConfig.for_model(
        spec.architecture,
        vocab_size=len(tokenizer),
        num_labels=task.classes,
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=spec.max_length + 2,  # RoBERTa counts positions from the padding index on
        **_sizes(spec),
    )
    classifier: Any = AutoModelForSequenceClassification  # from_config has no annotations
    return classifier.from_config(config), tokenizer


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
    # Byte-level pair encoding, because training WordPiece gives another vocabulary each time.
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(task.train.inputs, trainer)
    ends = [("[CLS]", special.index("[CLS]")), ("[SEP]", special.index("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast_tokenizer: Any = PreTrainedTokenizerFast  # its constructor has no annotations
    return fast_tokenizer(
        tokenizer_object=tokenizer, model_max_length=max_length, padding_side="right", **SPECIAL_TOKENS
    )


def task_of(spec: ModelSpec) -> Task:
    """Load the task of a registry entry, cut to the numbers of examples that the entry states.

    Raises:
        UserError: The task cannot be loaded.
    """
    task = load_task(spec.task)
    return replace(
        task, train=task.train.first(spec.train_examples), validation=task.validation.first(spec.eval_examples)
    )
