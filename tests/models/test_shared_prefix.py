import math
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.packed_layout import PackedLayout
from llm_ctr_pipeline.models.shared_prefix import (
    KERNELS,
    PackedAttention,
    shared_prefix_attention,
)

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]

# On a CPU, where nothing but a test runs it.
UNFUSED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
LAYOUT = PackedLayout(prompt_length=3, row_length=2, rows=2)
SDPA = PackedAttention(LAYOUT, "sdpa")


def draw_attention(layout: PackedLayout, heads: int, key_heads: int) -> tuple[Tensor, ...]:
    length = layout.prompt_length + layout.rows * layout.row_length
    generator = torch.Generator().manual_seed(length)
    shapes = [(1, count, length, 8) for count in (heads, key_heads, key_heads)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: PackedLayout
) -> Tensor:
    """The definition, token by token."""
    prompt, row_length = layout.prompt_length, layout.row_length
    length = query.shape[2]
    row_of = [-1] * prompt + [at // row_length for at in range(length - prompt)]
    hidden = [
        [k > q or (row_of[k] >= 0 and row_of[k] != row_of[q]) for k in range(length)]
        for q in range(length)
    ]
    copies = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(copies, dim=1) for tensor in (key, value))
    scores = (query @ key.transpose(2, 3) * scaling).masked_fill(torch.tensor(hidden), -math.inf)
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


@UNFUSED
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention"])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize(("prompt", "row", "rows"), [(3, 2, 2), (1, 1, 1), (5, 3, 4), (2, 5, 1)])
def test_a_kernel_computes_the_definition(
    kernel: str, key_heads: int, prompt: int, row: int, rows: int
) -> None:
    layout = PackedLayout(prompt, row, rows)
    attention = PackedAttention(layout, kernel)
    query, key, value = draw_attention(layout, 4, key_heads)
    with torch.no_grad():
        result, weights = shared_prefix_attention(
            nn.Identity(), query, key, value, None, scaling=0.3, shared_prefix=attention
        )
    expected = attend_plainly(query, key, value, 0.3, layout)
    assert weights is None
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


def flash_attn_func(
    query: Tensor, key: Tensor, value: Tensor, softmax_scale: float, causal: bool
) -> Tensor:
    """As the package defines it: heads behind tokens, causal from the bottom right."""
    copies = query.shape[2] // key.shape[2]
    key, value = (tensor.repeat_interleave(copies, dim=2) for tensor in (key, value))
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    scores = query @ key.transpose(2, 3) * softmax_scale
    seen = torch.ones(scores.shape[2:]).tril(scores.shape[3] - scores.shape[2]).bool()
    assert causal
    return (scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize(("prompt", "row", "rows"), [(3, 2, 2), (1, 1, 1), (5, 3, 4), (2, 5, 1)])
def test_flash_attention_is_given_what_the_definition_needs(
    monkeypatch: pytest.MonkeyPatch, key_heads: int, prompt: int, row: int, rows: int
) -> None:
    stand_in = SimpleNamespace(flash_attn_func=flash_attn_func)
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)  # type: ignore[arg-type]
    layout = PackedLayout(prompt, row, rows)
    query, key, value = draw_attention(layout, 4, key_heads)
    result = PackedAttention(layout, "flash_attention_2").attend(query, key, value, 0.3)
    expected = attend_plainly(query, key, value, 0.3, layout)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


def test_without_a_scaling_scores_are_divided_by_the_root_of_the_channels() -> None:
    query, key, value = draw_attention(LAYOUT, 2, 2)
    result, _ = shared_prefix_attention(nn.Identity(), query, key, value, None, shared_prefix=SDPA)
    torch.testing.assert_close(result, attend_plainly(query, key, value, 8**-0.5, LAYOUT))


@UNFUSED
def test_flex_attention_gives_the_models_sdpa_logits(make_model: MakeModel) -> None:
    model = make_model()
    ids_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0]])
    with torch.no_grad():
        model.llm.kernel = "sdpa"
        expected = model.answer_logits(ids_BF)
        model.llm.kernel = "flex_attention"
        torch.testing.assert_close(model.answer_logits(ids_BF), expected, rtol=1e-5, atol=1e-6)


def test_every_kernel_is_tested_or_needs_a_gpu() -> None:
    assert set(KERNELS) == {"sdpa", "flex_attention", "flash_attention_2"}


def test_a_rows_logits_do_not_depend_on_the_other_rows_nor_on_their_order(
    make_model: MakeModel,
) -> None:
    model = make_model()
    ids_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1], [1, 3, 3]])
    order = [3, 0, 4, 2, 1]
    with torch.no_grad():
        logits_B2 = model.answer_logits(ids_BF)
        alone_B2 = torch.cat([model.answer_logits(row_F[None]) for row_F in ids_BF])
        shuffled_B2 = model.answer_logits(ids_BF[order])
        beside_others = model.answer_logits(torch.cat([ids_BF[:1], ids_BF[1:].flip(1) % 3]))
    assert len(logits_B2.round(decimals=3).unique(dim=0)) == 5
    torch.testing.assert_close(alone_B2, logits_B2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shuffled_B2, logits_B2[order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(beside_others[0], logits_B2[0], rtol=1e-5, atol=1e-6)


def test_an_attention_that_gets_no_layout_names_its_layer() -> None:
    query, key, value = draw_attention(LAYOUT, 2, 2)
    with pytest.raises(NotImplementedError, match=r"Identity does not pass keywords .* cannot run"):
        shared_prefix_attention(nn.Identity(), query, key, value, None)


@pytest.mark.parametrize(
    ("options", "dropout", "message"),
    [
        ({"sliding_window": 4}, 0.0, r"sliding window of 4 .* shorter than .* \(3 \+ 2\): shorten"),
        ({"softcap": 50.0}, 0.0, "uses softcap, which .* choose a model without it, such as Qwen3"),
        ({"s_aux": torch.zeros(2)}, 0.0, "uses s_aux"),
        ({}, 0.1, "no attention dropout: set the model's attention_dropout to 0"),
    ],
)
def test_what_the_kernels_do_not_compute_is_refused(
    options: dict[str, object], dropout: float, message: str
) -> None:
    query, key, value = draw_attention(LAYOUT, 2, 2)
    with pytest.raises(NotImplementedError, match=message):
        shared_prefix_attention(
            nn.Identity(),
            query,
            key,
            value,
            None,
            dropout=dropout,
            shared_prefix=SDPA,
            **options,
        )


@pytest.mark.parametrize("options", [{"sliding_window": 5}, {"sliding_window": None}, {}])
def test_a_window_over_prompt_and_row_changes_nothing(options: dict[str, object]) -> None:
    query, key, value = draw_attention(LAYOUT, 2, 2)
    result, _ = shared_prefix_attention(
        nn.Identity(), query, key, value, None, shared_prefix=SDPA, **options
    )
    torch.testing.assert_close(result, attend_plainly(query, key, value, 8**-0.5, LAYOUT))


def test_a_model_with_too_short_a_window_is_refused(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    with pytest.raises(NotImplementedError, match=r"sees 8 at most \(sliding window\)"):
        make_model(make_causal_lm("mistral", sliding_window=8))
    assert make_model(make_causal_lm("mistral", sliding_window=9)) is not None


def test_a_model_with_softcapped_scores_is_refused(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    with pytest.raises(NotImplementedError, match="softcap"):
        make_model(make_causal_lm("gemma2"))


def test_attention_dropout_is_refused_before_training(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    with pytest.raises(NotImplementedError, match="attention_dropout to 0"):
        make_model(make_causal_lm("qwen3", attention_dropout=0.1))


@pytest.mark.parametrize("key_heads", [4, 2])
def test_values_may_have_other_channels_than_keys(key_heads: int) -> None:
    query, key, _ = draw_attention(LAYOUT, 4, key_heads)
    value = torch.randn(1, key_heads, query.shape[2], 5)
    for kernel in ("sdpa", "flash_attention_2"):
        attention = PackedAttention(LAYOUT, kernel)
        result, _ = shared_prefix_attention(
            nn.Identity(), query, key, value, None, shared_prefix=attention
        )
        expected = attend_plainly(query, key, value, 8**-0.5, LAYOUT)
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
