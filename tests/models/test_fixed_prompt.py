import copy
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models import fixed_prompt
from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.settings import ServingPrecision, TermsSettings
from tests.decoders import DEEPFM_TERMS, DROPOUTS, EVERYTHING, OF_FIELDS
from tests.fake_cuda import CUDA, NoTransfers, fake_cuda, on_fake_cuda

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]

FIELD_SIZES = (3, 5, 4)
TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(3, 7), answers=(15, 16))
NO_SUFFIX = replace(TOKENS, suffix=())
CAPPED = {"attn_logit_softcapping": None, "final_logit_softcapping": 2.0}
FM_TERMS = TermsSettings(kind="fm", gen=False, hidden_sizes=(2,), dropout=0.0, batch_norm=False)


def draw_ids(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    columns = [torch.randint(0, size, (rows,), generator=generator) for size in FIELD_SIZES]
    return torch.stack(columns, dim=1).int()


def assert_same(served: nn.Module, model: LlmCtr, rows: int = 7) -> None:
    """Equal to rounding, of the largest logit: log-odds are the difference of two.

    With AVX-512 that is 1e-6; with SSE, which adds up in another order, 1.3e-6 was seen.
    """
    ids_BF = draw_ids(rows)
    with torch.inference_mode():
        found_B, expected_B = served(ids_BF), model(ids_BF)
        logits_B2 = model.answer_logits(ids_BF)
    assert found_B.dtype == torch.float32
    tolerance = 3e-6 * float(torch.cat([expected_B, logits_B2.flatten()]).abs().max())
    torch.testing.assert_close(found_B, expected_B, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("tokens", [TOKENS, NO_SUFFIX], ids=["suffix", "no suffix"])
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": False}),
        ("qwen3", {"num_hidden_layers": 1}),
        ("qwen3", {"num_hidden_layers": 3}),
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
        *[(name, {}) for name in ("mistral", "gemma", "phi", "cohere", "granite", "gpt2")],
        ("gemma2", CAPPED),
    ],
)
def test_log_odds_are_the_models_own(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    architecture: str,
    changes: dict[str, Any],
    tokens: PromptTokens,
    rows: int,
) -> None:
    model = make_model(make_causal_lm(architecture, **changes), tokens).eval()
    served = FixedPromptCtr(model)
    assert served.fixed
    assert_same(served, model, rows)


@pytest.mark.parametrize(
    "settings",
    [
        *[{name: value} for name, value in (OF_FIELDS | DROPOUTS).items()],
        {"terms": DEEPFM_TERMS},
        {"terms": FM_TERMS},
        EVERYTHING,
    ],
    ids=lambda settings: " ".join(settings) if len(settings) == 1 else "everything",
)
def test_the_other_parts_are_the_models_own(
    make_model: MakeModel, settings: dict[str, Any]
) -> None:
    model = make_model(tokens=TOKENS, **settings)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    served = FixedPromptCtr(model)  # which is still in training mode
    assert served.fixed
    assert_same(served, model)


def test_the_prompt_is_not_computed_again(make_model: MakeModel) -> None:
    model = make_model(tokens=TOKENS)
    served = FixedPromptCtr(model)
    seen: dict[int, tuple[int, ...]] = {}

    def note(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: seen.update({layer: tuple(inputs[0].shape)})

    for number, layer in enumerate(model.llm.backbone.layers):
        layer.mlp.register_forward_pre_hook(note(number))
    served(draw_ids(4))
    # Three fields and two tokens of the suffix; in the last layer the last token alone.
    assert seen == {0: (4, 5, 32), 1: (1, 4, 32)}


def test_the_model_itself_computes_what_it_did(make_model: MakeModel) -> None:
    model = make_model(tokens=TOKENS).eval()
    ids_BF = draw_ids(7)
    before_B = model(ids_BF)
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    FixedPromptCtr(model)
    assert torch.equal(model(ids_BF), before_B)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


@pytest.mark.skipif(sys.platform != "linux", reason="reaches into c10 on Linux alone")
@pytest.mark.parametrize("precision", ["32-true", "bf16"])
def test_all_that_is_kept_goes_with_it_to_a_gpu(
    make_model: MakeModel, precision: ServingPrecision
) -> None:
    served = FixedPromptCtr(make_model(tokens=TOKENS, **EVERYTHING), precision)
    with fake_cuda() as mode:
        on_gpu = on_fake_cuda(served, mode)
        with mode, NoTransfers(), torch.inference_mode():
            log_odds_B = on_gpu(torch.zeros(5, 3, dtype=torch.int32, device=CUDA))
    assert (log_odds_B.device, log_odds_B.shape, log_odds_B.dtype) == (CUDA, (5,), torch.float32)


def test_rows_do_not_depend_on_each_other(make_model: MakeModel) -> None:
    served = FixedPromptCtr(make_model(tokens=TOKENS))
    ids_BF = draw_ids(7)
    with torch.inference_mode():
        alone_B = torch.cat([served(row_F[None]) for row_F in ids_BF])
        torch.testing.assert_close(served(ids_BF), alone_B, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(("precision", "rounding"), [("bf16", 0.05), ("int8", 0.05)])
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_a_lower_precision_rounds_and_leaves_the_model_alone(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    architecture: str,
    precision: ServingPrecision,
    rounding: float,
) -> None:
    model = make_model(make_causal_lm(architecture), TOKENS, terms=DEEPFM_TERMS).eval()
    untouched = copy.deepcopy(model)
    served = FixedPromptCtr(model, precision)
    ids_BF = draw_ids(7)
    with torch.inference_mode():
        found_B, expected_B = served(ids_BF), untouched(ids_BF)
        assert torch.equal(model(ids_BF), expected_B)
    assert found_B.dtype == torch.float32
    assert not torch.allclose(found_B, expected_B, rtol=1e-6, atol=0)
    assert (found_B - expected_B).abs().max() < rounding * expected_B.abs().max()


def test_int8_on_another_device_is_refused(make_model: MakeModel) -> None:
    decoder = FixedPromptCtr(make_model(tokens=TOKENS)).model.llm.to("meta")
    with pytest.raises(SettingsError, match="int8 runs on the CPU alone: choose bf16 on a GPU"):
        decoder.lowered("int8")


@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_a_model_that_cannot_do_without_its_prompt_computes_it(
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    def attend(self: object, query: Tensor, *_: object) -> Tensor:
        if fault == "raises":
            raise RuntimeError("no such shape\nand a trace")
        return query.transpose(1, 2)

    monkeypatch.setattr(fixed_prompt.FixedPromptAttention, "attend", attend)
    model = make_model(tokens=TOKENS).eval()
    with caplog.at_level(logging.WARNING):
        served = FixedPromptCtr(model)
    assert not served.fixed
    said = {"raises": "(RuntimeError: no such shape)", "differs": "instead of"}[fault]
    (message,) = caplog.messages
    assert said in message
    assert "Qwen3Model cannot do without" in message
    assert torch.equal(served(draw_ids(7)), model(draw_ids(7)))
