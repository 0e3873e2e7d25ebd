import math
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from llm_ctr_pipeline.models import shared_prefix
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


def laid_out_as_by(kernel: str, result: Tensor, query: Tensor) -> Tensor:
    """The result as PyTorch's kernels on a GPU lay it out; see `torch._meta_registrations`."""
    if kernel == "efficient":
        return result.transpose(1, 2).contiguous().transpose(1, 2)
    if kernel in {"flash", "cudnn"}:
        return torch.empty_like(query).copy_(result)
    return result.contiguous()


@pytest.fixture
def lay_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let PyTorch's attention return the layout of a kernel."""
    plain = F.scaled_dot_product_attention

    def patch(kernel: str) -> None:
        def attend(query: Tensor, key: Tensor, value: Tensor, **asked: Any) -> Tensor:
            return laid_out_as_by(kernel, plain(query, key, value, **asked), query)

        monkeypatch.setattr(F, "scaled_dot_product_attention", attend)

    return patch


LAYOUTS = ["efficient", "flash", "cudnn", "math"]


@pytest.mark.parametrize("given", ["heads first", "tokens first"])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_sdpa_takes_any_layout_and_returns_one(
    lay_out: Callable[[str], None], kernel: str, key_heads: int, given: str
) -> None:
    layout = PackedLayout(5, 3, 4)
    query, key, value = draw_attention(layout, 4, key_heads)
    expected = attend_plainly(query, key, value, 0.3, layout)
    if given == "tokens first":  # as most layers hand them over
        query, key, value = (laid_out_as_by("efficient", t, t) for t in (query, key, value))
    lay_out(kernel)
    result = PackedAttention(layout, "sdpa").attend(query, key, value, 0.3)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    assert result.is_contiguous()  # what a layer makes of it may be a view


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gpt2"])
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_a_model_trains_the_same_in_any_layout(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    lay_out: Callable[[str], None],
    kernel: str,
    architecture: str,
) -> None:
    model = make_model(make_causal_lm(architecture))
    ids_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0]])
    weights = list(model.parameters())
    expected = model(ids_BF)
    gradients = torch.autograd.grad(expected.square().sum(), weights)
    lay_out(kernel)
    result = model(ids_BF)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    for found, gradient in zip(
        torch.autograd.grad(result.square().sum(), weights), gradients, strict=True
    ):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "row", "rows"), [(3, 2, 2), (24, 24, 40), (130, 7, 90), (300, 130, 5), (128, 128, 3)]
)
def test_the_block_mask_is_that_of_all_pairs_of_tokens(prompt: int, row: int, rows: int) -> None:
    mask = shared_prefix._make_block_mask(prompt, row, rows, "cpu")
    length = prompt + row * rows
    expected = create_block_mask(mask.mask_mod, None, None, length, length, device="cpu")
    assert mask.shape == expected.shape
    assert torch.equal(mask.to_dense().bool(), expected.to_dense().bool())
    tokens = torch.arange(length)
    seen_NN = mask.mask_mod(tokens, tokens, tokens[:, None], tokens)
    row_of = (tokens - prompt) // row
    of_prompt_or_row = (tokens < prompt) | (row_of == row_of[:, None])
    assert torch.equal(seen_NN, (tokens <= tokens[:, None]) & of_prompt_or_row)


class Largest(TorchDispatchMode):
    """Notes the most elements that a tensor has."""

    elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def test_the_block_mask_of_a_large_batch_is_made_without_all_pairs_of_tokens() -> None:
    layout = PackedLayout(24, 24, 2000)
    with FakeTensorMode(), Largest() as largest:
        shared_prefix._make_block_mask(24, 24, 2000, "cpu")
    assert 0 < largest.elements < layout.packed_length**2 / 10_000


def test_a_block_mask_first_needed_in_validation_can_be_kept_for_a_backward_pass() -> None:
    shared_prefix._block_mask.cache_clear()
    with torch.inference_mode():
        shared_prefix._block_mask(3, 2, 2, "cpu")
    mask = shared_prefix._block_mask(3, 2, 2, "cpu")
    tensors = [value for value in vars(mask).values() if isinstance(value, Tensor)]
    assert tensors
    assert not any(tensor.is_inference() for tensor in tensors)


def flash_attn_func(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    softmax_scale: float,
    causal: bool,
    deterministic: bool,
) -> Tensor:
    """As the package defines it: heads behind tokens, causal from the bottom right."""
    copies = query.shape[2] // key.shape[2]
    key, value = (tensor.repeat_interleave(copies, dim=2) for tensor in (key, value))
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    scores = query @ key.transpose(2, 3) * softmax_scale
    seen = torch.ones(scores.shape[2:]).tril(scores.shape[3] - scores.shape[2]).bool()
    assert causal
    assert not deterministic
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


@pytest.mark.parametrize("asked", [True, False])
def test_flash_attention_is_told_to_be_deterministic(
    monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    told = []

    def attend(query: Tensor, *_: Tensor, deterministic: bool, **options: object) -> Tensor:
        told.append(deterministic)
        return query

    stand_in = SimpleNamespace(flash_attn_func=attend)
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)  # type: ignore[arg-type]
    try:
        torch.use_deterministic_algorithms(asked)
        PackedAttention(LAYOUT, "flash_attention_2").attend(*draw_attention(LAYOUT, 4, 2), 0.3)
    finally:
        torch.use_deterministic_algorithms(False)
    assert told == [asked, asked]


def test_without_a_scaling_scores_are_divided_by_the_root_of_the_channels() -> None:
    query, key, value = draw_attention(LAYOUT, 2, 2)
    result, _ = shared_prefix_attention(nn.Identity(), query, key, value, None, shared_prefix=SDPA)
    torch.testing.assert_close(result, attend_plainly(query, key, value, 8**-0.5, LAYOUT))


@UNFUSED
def test_flex_attention_stays_compiled_however_many_lengths_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_prefix._compiled_flex_attention.cache_clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    attend = shared_prefix._compiled_flex_attention()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    # The worst case, in which no length becomes dynamic; and PyTorch's own limit, made smaller.
    worst = {"automatic_dynamic_shapes": False, "recompile_limit": 1}
    with torch._dynamo.config.patch(worst), torch.no_grad():
        for rows in (1, 2, 3):
            layout = PackedLayout(3, 2, rows)
            query, key, value = draw_attention(layout, 2, 2)
            mask = shared_prefix._block_mask(3, 2, rows, "cpu")
            result = attend(query, key, value, block_mask=mask, scale=0.3)
            expected = attend_plainly(query, key, value, 0.3, layout)
            torch.testing.assert_close(result.transpose(1, 2), expected, rtol=1e-5, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3
    shared_prefix._compiled_flex_attention.cache_clear()


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
