from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.last_layer import compute_last_tokens_only
from llm_ctr_pipeline.models.llm_ctr import LlmCtr


def test_the_last_layers_feed_forward_part_sees_one_token_a_row(
    make_model: Callable[..., LlmCtr],
) -> None:
    model = make_model()
    seen: dict[int, tuple[int, ...]] = {}

    def note(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[layer] = tuple(inputs[0].shape)

        return hook

    for number, layer in enumerate(model.llm.backbone.layers):
        layer.mlp.register_forward_pre_hook(note(number))
    model(torch.zeros(5, 3, dtype=torch.int32))
    prompt = len(model.llm.tokens.prompt)
    assert seen == {0: (1, prompt + 5 * 3, 32), 1: (1, 5, 32)}


def test_a_model_without_a_list_of_layers_is_refused(
    make_causal_lm: Callable[..., PreTrainedModel],
) -> None:
    backbone = make_causal_lm().base_model
    backbone.layers = nn.Sequential(*backbone.layers)
    with pytest.raises(NotImplementedError, match="Qwen3Model has no list of 2 decoder layers"):
        compute_last_tokens_only(backbone)
