"""Small classifiers with random weights, one for each architecture of the transformers library."""

from typing import Any, Literal

import torch
from torch import nn

from prunecast import torchvision_compat as _before_transformers  # noqa: F401

import tokenizers  # isort: skip
import transformers  # isort: skip
from transformers.models.auto import image_processing_auto, modeling_auto  # isort: skip

Kind = Literal["text", "image"]
DEVIATION = 0.2  # of the weights, ten times the usual one, so that each layer matters although it is narrow
CLASS_NAMES = ("red", "orange", "green", "blue", "grey")
CLASSES = len(CLASS_NAMES)  # a number of outputs that no other layer of a small model has
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENS = 270  # of the vocabulary: the marks, all bytes, and what the library adds for some architectures
SIDE = 64  # height and width of an image, in pixels
SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "decoder_start_token_id": 2, "eos_token_id": 3}
VOCABULARY = SPECIAL_TOKENS | {"cls_token_id": 2, "sep_token_id": 3, "vocab_size": TOKENS}

SIZES: dict[int, tuple[str, ...]] = {  # what a setting of these names is at most
    1: ("num_nextn_predict_layers", "n_group", "topk_group", "first_k_dense_replace", "num_self_attends_per_block"),
    2: (
        *("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_decoder_layers"),
        *("num_experts_per_tok", "moe_topk"),
    ),
    4: (
        *("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads"),
        *("num_experts", "num_local_experts", "n_routed_experts", "rotary_dim", "index_n_heads", "num_query_groups"),
        *("linear_num_key_heads", "linear_num_value_heads", "num_self_attention_heads", "num_cross_attention_heads"),
    ),
    8: (
        *("head_dim", "d_head", "d_kv", "kv_channels", "attention_head_size", "v_head_dim", "qk_nope_head_dim"),
        *("qk_rope_head_dim", "kv_lora_rank", "q_lora_rank", "index_head_dim", "mamba_dt_rank"),
        *("linear_key_head_dim", "linear_value_head_dim", "patch_size", "num_latents", "mamba_d_state"),
    ),
    32: (
        *("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "word_embed_proj_dim", "d_latents"),
        *("input_embedding_size", "pooler_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size"),
    ),
    64: (
        *("intermediate_size", "hidden_dim", "d_ff", "d_inner", "dff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"),
        *("ffn_hidden_size", "feed_forward_size", "image_size", "input_size", "index_topk"),
    ),
    160: ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
}
SIZE_OF = {name: size for size, names in SIZES.items() for name in names}
PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "attn_layers")
DEPTHS = ("depths", "depth", "num_block_repeats", "stage_num_blocks", "n_attn_blocks")
WIDTHS = (
    *("hidden_sizes", "embed_dim", "embed_dims", "stem_channels", "stage_in_channels"),
    *("stage_mid_channels", "stage_out_channels", "neck_hidden_sizes", "base_attn_unit_dims"),
)
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
OVERRIDES: dict[str, dict[str, Any]] = {  # where settings depend on each other
    "bit": {"num_groups": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "cvt": {"depth": [1, 2, 3]},
    "donut-swin": {"patch_size": 4, "window_size": 2},
    "efficientnet": {"width_coefficient": 0.5, "depth_coefficient": 0.1, "hidden_dim": 640},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "hgnet_v2": {"stem_channels": [3, 8, 12]},
    "hiera": {"image_size": [SIDE, SIDE]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "levit": {"patch_size": 16},
    "lilt": {"hidden_size": 48},  # divided by 6
    "luke": {"entity_vocab_size": 10},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "perceiver": {"num_cross_attention_heads": 1, "num_self_attention_heads": 4, "qk_channels": 32, "v_channels": 32},
    "PerceiverForImageClassificationFourier": {"image_size": 224},  # whatever the image, it takes so many positions
    "reformer": {"axial_pos_shape": [16, 16], "axial_pos_embds_dim": [16, 16], "hash_seed": 0},
    "roc_bert": {"shape_vocab_size": TOKENS, "pronunciation_vocab_size": TOKENS},
    "swin": {"patch_size": 4, "window_size": 2},
    "textnet": {"stem_out_channels": 16},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
}


PROCESSORS: Any = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]


def architectures(kind: Kind) -> dict[str, str]:
    """The classifiers of the transformers library.

    Args:
        kind: What they classify.

    Returns:
        The model type by the name of the class, in the library's order.
    """
    mappings: dict[str, Any] = vars(modeling_auto)
    task = {"text": "SEQUENCE", "image": "IMAGE"}[kind]
    classes = mappings[f"MODEL_FOR_{task}_CLASSIFICATION_MAPPING_NAMES"]
    listed = [(model_type, (names,) if isinstance(names, str) else names) for model_type, names in classes.items()]
    return {name: model_type for model_type, names in listed for name in names}


def small_model(classifier: str, model_type: str) -> nn.Module:
    """Build a small classifier of `CLASSES` classes with random weights from seed 0.

    Args:
        classifier: Name of its class in the transformers library.
        model_type: Its model type there.

    Returns:
        The model, in evaluation mode and in float32.
    """
    config_class: Any = transformers.CONFIG_MAPPING[model_type]
    settings = (
        _small(config_class().to_dict())
        | OVERRIDES.get(model_type, {})
        | OVERRIDES.get(classifier, {})
        | SPECIAL_TOKENS
    )
    names = {"id2label": dict(enumerate(CLASS_NAMES)), "label2id": {name: i for i, name in enumerate(CLASS_NAMES)}}
    config = config_class(**settings, **names, num_labels=CLASSES, problem_type="single_label_classification")
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, classifier)(config)
    return model.float().eval()


def _small(default: dict[str, Any]) -> dict[str, Any]:
    """Settings of a small model, from the library's default ones of its architecture."""
    small: dict[str, Any] = {}
    for name, value in default.items():
        if isinstance(value, dict) and "model_type" in value:
            small[name] = _small(value)
        elif name in ("initializer_range", "init_std"):
            small[name] = DEVIATION
        elif name in VOCABULARY:
            small[name] = VOCABULARY[name]
        elif name in SIZE_OF and (isinstance(value, int) or (value is None and name == "head_dim")):
            small[name] = min(value or SIZE_OF[name], SIZE_OF[name])
        elif name in DEPTHS and isinstance(value, list | tuple):
            small[name] = [1] * len(value)
        elif name in WIDTHS and isinstance(value, list | tuple):
            small[name] = [width // 4 for width in value]
        elif name == "embed_dim":
            small[name] = value // 4
        elif name in PER_LAYER and value:
            small[name] = value[: max(2, 1 + max(value.index(layer) for layer in set(value)))]
            small["num_hidden_layers"] = len(small[name])
    if "qk_rope_head_dim" in default:
        small.pop("head_dim", None)  # computed
    if "num_key_value_heads" in default and "num_attention_heads" in default:
        grouped = default["num_key_value_heads"] not in (None, default["num_attention_heads"])
        small["num_key_value_heads"] = 2 if grouped else 4
    return small


def tokenizer() -> Any:
    """A tokenizer whose tokens are bytes; each text begins with [CLS] and ends with [SEP]."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*MARKS, *alphabet])}
    of_bytes = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="[UNK]"))
    of_bytes.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), MARKS, strict=True))
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(tokenizer_object=of_bytes, **names)


def image_processor(model: Any) -> Any:
    """The image processor of a small model's architecture, set to the size of its images."""
    names = PROCESSORS.get(model.config.model_type, {"torchvision": "ViTImageProcessor"})
    chosen = getattr(transformers, names["torchvision"])
    side = getattr(model.config, "image_size", SIDE)
    side = side if isinstance(side, int) else SIDE
    default = {name: getattr(chosen, name, None) for name in ("size", "crop_size")}
    settings: dict[str, Any] = {
        name: dict.fromkeys(size, side) for name, size in default.items() if isinstance(size, dict)
    }
    if hasattr(chosen, "clusters"):
        settings["clusters"] = [[level] * 3 for level in (-1.0, 1.0)]  # colours that stand for pixels
    return chosen(**settings)
