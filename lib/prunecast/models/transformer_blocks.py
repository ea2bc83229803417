"""The blocks of a transformer: where a model has them, and how it is made shorter."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prunecast.errors import UserError

PROJECTIONS = (  # endings of the names of the layers that join the heads of a block
    "attention.output.dense",  # bert, electra, roberta, deberta
    "attention.out_lin",  # distilbert
    "attention.attn.o",  # mpnet
    "attention.o_proj",  # vit
    "attn.c_proj",  # gpt2
    "self_attn.o_proj",  # gemma, llama, qwen
    "self_attn.out_proj",  # opt
    "self_attn.dense",  # phi
    "attention.dense",  # gpt_neox, bloom
)


def find_blocks(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Find the blocks of a transformer: its first list of as many modules as the configuration says.

    Args:
        model: A model of the transformers library.

    Returns:
        The module that holds the list, the list's name in it, and the list.

    Raises:
        UserError: The model has no such list, or it is an encoder with a decoder.
    """
    config = _config(model)
    kind = getattr(config, "model_type", getattr(model, "architecture", type(model).__name__))
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{kind} is an encoder with a decoder, and only blocks of one chain can be removed")
    depth = getattr(config, "num_hidden_layers", None)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                return module, name, child
    listed = f"a list of {depth} modules" if depth else "num_hidden_layers in its configuration"
    raise UserError(f"the blocks of {kind} are not found: it lacks {listed}")


def keep_blocks(model: nn.Module, kept: Sequence[int]) -> None:
    """Remove all blocks of a transformer but some, in place.

    The configuration follows: its number of layers, and its lists of one entry a layer, such as `layer_types`.

    Args:
        model: A model of the transformers library.
        kept: Places of the blocks that stay, in their order; at least one.

    Raises:
        UserError: As for `find_blocks`.
    """
    parent, name, blocks = find_blocks(model)
    config, depth = _config(model), len(blocks)
    setattr(parent, name, nn.ModuleList(blocks[place] for place in kept))
    for key, value in list(vars(config).items()):
        if "layer" in key and isinstance(value, list) and len(value) == depth:
            setattr(config, key, [value[place] for place in kept])
    config.num_hidden_layers = len(kept)
    for place, block in enumerate(getattr(parent, name)):
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = place  # where a decoder keeps what it has computed


def heads_of(model: Any) -> int:
    """Number of attention heads of each block of a transformer."""
    return int(model.config.get_text_config().num_attention_heads)


def projections_of(model: Any, blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """Find the layers that join the heads of each block.

    Args:
        model: A model of the transformers library.
        blocks: Its blocks.

    Returns:
        One layer a block.

    Raises:
        UserError: A block has no layer of a known name that does so.
    """
    found = []
    for block in blocks:
        layers = [module for name, module in block.named_modules() if name.endswith(PROJECTIONS)]
        if len(layers) != 1:
            raise UserError(
                f"the heads of {model.config.model_type} are not found: no layer of a known name joins their outputs"
            )
        found += layers
    return found


Rule = bool | Tensor  # of a block: run unchanged, left out, or under gates (1,) of the block or (heads,) of its heads


class BlockGates:
    """The gates of the blocks of a model, which replace the blocks' forward pass inside a context.

    Args:
        blocks: The blocks.
        projections: The layers that join the heads of each block; none where whole blocks have gates.
    """

    def __init__(self, blocks: Sequence[nn.Module], projections: Sequence[nn.Module]):
        self._blocks, self._projections = blocks, projections
        self._extra: list[int | None] = []  # values beside the hidden state that each block returns; None: no tuple
        self._rules: Sequence[Rule] = ()
        self._states: list[Tensor] = []

    def follow(self, rules: Sequence[Rule], shared: int) -> None:
        """Set the rules for the next forward pass; the states after the first `shared` blocks are those of the last."""
        self._rules = rules
        del self._states[shared:]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside the context the model follows the rules."""
        with ExitStack() as undo:
            for place, block in enumerate(self._blocks):
                block.forward = partial(self._through, place, block.forward)
                undo.callback(delattr, block, "forward")
            for place, layer in enumerate(self._projections):
                undo.callback(layer.register_forward_pre_hook(partial(self._by_head, place)).remove)
            try:
                yield
            finally:
                self._states.clear()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside the context one forward pass is observed, after which the form of the blocks' outputs is known."""
        calls: list[int] = []

        def observe(place: int, _block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            calls.append(place)
            self._extra.append(len(output) - 1 if isinstance(output, tuple) else None)
            before, after = _hidden(args, kwargs), output[0] if isinstance(output, tuple) else output
            if before.shape != after.shape:
                shapes = " and ".join(str(tuple(each.shape)) for each in (before, after))
                raise UserError(f"block {place} cannot be left out: input and output have the shapes {shapes}")

        with ExitStack() as undo:
            for place, block in enumerate(self._blocks):
                hook = block.register_forward_hook(partial(observe, place), with_kwargs=True)
                undo.callback(hook.remove)
            yield
        if calls != list(range(len(self._blocks))):
            raise UserError(f"the {len(self._blocks)} blocks are not run one after the other, each once")

    def _through(self, place: int, forward: Any, *args: Any, **kwargs: Any) -> Any:
        if place < len(self._states):
            return self._output(place, self._states[place])
        rule, x = self._rules[place], _hidden(args, kwargs)
        if rule is False:
            output = self._output(place, x)
        else:
            output = forward(*args, **kwargs)
            if isinstance(rule, Tensor) and not self._projections:
                y = output[0] if isinstance(output, tuple) else output
                output = self._output(place, x + rule.to(x) * (y - x))
        if torch.is_inference_mode_enabled():
            self._states.append(output[0] if isinstance(output, tuple) else output)
        return output

    def _output(self, place: int, hidden: Tensor) -> Any:
        extra = self._extra[place]
        return hidden if extra is None else (hidden, *[None] * extra)

    def _by_head(self, place: int, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor | None:
        rule = self._rules[place]
        if not isinstance(rule, Tensor):
            return None
        by_head = torch.unflatten(inputs[0], -1, (len(rule), -1))
        return torch.flatten(by_head * rule.to(inputs[0])[:, None], -2)


def _hidden(args: Any, kwargs: Any) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _config(model: Any) -> Any:
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
