"""The shared prefix against the oracle: the same loss, and the same gradient of every weight."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from statistics import geometric_mean

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.repeated_prompt import RepeatedPromptCtr
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.prompt import PromptTokens

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]
Gradients = dict[str, Tensor]

TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(), answers=(15, 16))
WITH_SUFFIX = replace(TOKENS, suffix=(3, 5))
FIELD_SIZES = (3, 5, 4)
EXACT = 1e-5
BACKBONE = "llm.backbone."

VARIANTS = [
    pytest.param("qwen3", {}, id="qwen3-tied-gqa"),
    pytest.param("qwen3", {"num_key_value_heads": 4}, id="qwen3-tied"),
    pytest.param("qwen3", {"tie_word_embeddings": False}, id="qwen3-untied-gqa"),
    pytest.param("llama", {}, id="llama-untied"),
    pytest.param("llama", {"tie_word_embeddings": True}, id="llama-tied"),
    pytest.param("llama", {"num_key_value_heads": 2}, id="llama-untied-gqa"),
    pytest.param("gpt2", {}, id="gpt2-tied-learned-positions"),
    pytest.param("gemma", {}, id="gemma-tied-mqa-scaled-embeddings"),
    pytest.param("mistral", {}, id="mistral-untied-gqa"),
    pytest.param("phi", {}, id="phi-untied-biased"),
]


def draw_batch(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    columns = [torch.randint(0, size, (rows,), generator=generator) for size in FIELD_SIZES]
    return torch.stack(columns, dim=1), (torch.rand(rows, generator=generator) < 0.5).float()


def make_pair(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    architecture: str,
    changes: dict[str, object],
    tokens: PromptTokens,
) -> tuple[LlmCtr, RepeatedPromptCtr]:
    """The model and its oracle, with equal weights and none in common."""
    causal_lm = make_causal_lm(architecture, **changes)
    full = copy.deepcopy(causal_lm)
    model = make_model(causal_lm, tokens)
    return model, RepeatedPromptCtr(copy.deepcopy(model), full, tokens)


def loss_and_gradients(
    network: nn.Module, ids_BF: Tensor, labels_B: Tensor, *, bf16: bool = False
) -> tuple[Tensor, Gradients]:
    network.zero_grad()
    device = ids_BF.device.type
    with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
        log_odds_B = network(ids_BF)
    loss = F.binary_cross_entropy_with_logits(log_odds_B, labels_B)
    loss.backward()
    gradients = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        gradients[name] = parameter.grad.clone()
    return loss.detach(), gradients


def oracle_gradients(oracle: RepeatedPromptCtr, raw: Gradients, model: LlmCtr) -> Gradients:
    """The oracle's gradients under the model's names; unused vocabulary rows must have none."""
    causal_lm, tokens = oracle.causal_lm, model.llm.tokens
    names = {id(parameter): name for name, parameter in oracle.named_parameters()}
    embedding = causal_lm.get_input_embeddings().weight
    output = causal_lm.get_output_embeddings()
    inner = dict(causal_lm.base_model.named_parameters())

    def rows(parameter: Tensor, used: tuple[int, ...]) -> Tensor:
        gradient = raw[names[id(parameter)]]
        unused = [row for row in range(len(gradient)) if row not in used]
        assert unused
        assert not gradient[unused].any()
        return gradient[list(used)]

    found = {}
    for name, _ in model.named_parameters():
        if name == "llm.answer_rows":
            found[name] = rows(output.weight, tokens.answers)
        elif name == "llm.answer_bias":
            found[name] = rows(output.bias, tokens.answers)
        elif not name.startswith(BACKBONE):
            found[name] = raw[name]
        elif inner[name.removeprefix(BACKBONE)] is embedding:
            found[name] = rows(embedding, tokens.used)
        else:
            found[name] = raw[names[id(inner[name.removeprefix(BACKBONE)])]]
    return found


def norm(tensors: Gradients) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors.values()]).norm())


def assert_equal_gradients(actual: Gradients, expected: Gradients, tolerance: float) -> None:
    """Compare weight by weight, relative to the weight's own gradient.

    The floor is for what has no gradient but rounding, as a bias of all keys has.
    """
    assert actual.keys() == expected.keys()
    floor = 1e-8 * norm(expected)
    for name, gradient in expected.items():
        difference = float((actual[name] - gradient).norm())
        assert difference <= tolerance * float(gradient.norm()) + floor, name


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("tokens", [TOKENS, WITH_SUFFIX], ids=["prompt", "prompt-and-suffix"])
@pytest.mark.parametrize(("architecture", "changes"), VARIANTS)
def test_loss_and_every_gradient_equal_the_oracles(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    architecture: str,
    changes: dict[str, object],
    tokens: PromptTokens,
    rows: int,
) -> None:
    model, oracle = make_pair(make_causal_lm, make_model, architecture, changes, tokens)
    ids_BF, labels_B = draw_batch(rows)
    loss, gradients = loss_and_gradients(model, ids_BF, labels_B)
    expected_loss, raw = loss_and_gradients(oracle, ids_BF, labels_B)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=EXACT)
    assert_equal_gradients(gradients, oracle_gradients(oracle, raw, model), EXACT)


def test_all_parts_are_trained_and_the_unused_vocabulary_is_no_parameter(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    model = make_model(make_causal_lm("qwen3", tie_word_embeddings=False))
    _, gradients = loss_and_gradients(model, *draw_batch(7))
    assert {name.split(".")[0] for name in gradients} == {"embedding", "gen", "projector", "llm"}
    assert gradients["llm.backbone.embed_tokens.weight"].shape == (6, 32)
    assert gradients["llm.answer_rows"].shape == (2, 32)
    assert all(gradient.any() for gradient in gradients.values())
    assert not [name for name, weight in model.named_parameters() if 40 in weight.shape]


def distance_ratio_in_bfloat16(
    model: LlmCtr, oracle: RepeatedPromptCtr, batch: tuple[Tensor, Tensor]
) -> float:
    """How much farther than the oracle's the model's gradient is from the one in float32."""
    _, raw = loss_and_gradients(oracle, *batch)
    exact = oracle_gradients(oracle, raw, model)
    _, raw = loss_and_gradients(oracle, *batch, bf16=True)
    rounded = oracle_gradients(oracle, raw, model)
    _, gradients = loss_and_gradients(model, *batch, bf16=True)

    def distance(from_exact: Gradients) -> float:
        return norm({name: from_exact[name] - exact[name] for name in exact}) / norm(exact)

    assert 0 < distance(gradients) < 0.2
    return distance(gradients) / distance(rounded)


def draw_tokens(seed: int, suffix: int) -> PromptTokens:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed)).tolist()
    return PromptTokens(tuple(order[:6]), tuple(order[6 : 6 + suffix]), (15, 16))


@pytest.mark.parametrize("suffix", [0, 2])
def test_bfloat16_is_as_near_to_float32_as_the_oracle_is(
    make_causal_lm: MakeLm, make_model: MakeModel, suffix: int
) -> None:
    # What rounding does to one prompt is chance, so several are averaged.
    ratios = []
    for seed in range(8):
        tokens = draw_tokens(seed, suffix)
        model, oracle = make_pair(make_causal_lm, make_model, "qwen3", {}, tokens)
        ratios.append(distance_ratio_in_bfloat16(model, oracle, draw_batch(16)))
    assert geometric_mean(ratios) < 1.5


GPU = {"hidden_size": 64, "head_dim": 16}
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@NO_CUDA
@pytest.mark.parametrize("suffix", [0, 2])
@pytest.mark.parametrize("rows", [1, 67])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["no-gqa", "gqa"])
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention"])
def test_on_cuda_in_float32_it_equals_the_oracle(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    kernel: str,
    key_heads: int,
    rows: int,
    suffix: int,
) -> None:
    changes = {**GPU, "num_key_value_heads": key_heads}
    tokens = draw_tokens(0, suffix)
    model, oracle = make_pair(make_causal_lm, make_model, "qwen3", changes, tokens)
    model.cuda().llm.kernel = kernel
    oracle.cuda()
    ids_BF, labels_B = (tensor.cuda() for tensor in draw_batch(rows))
    loss, gradients = loss_and_gradients(model, ids_BF, labels_B)
    expected_loss, raw = loss_and_gradients(oracle, ids_BF, labels_B)
    # Kernels on the GPU sum in another order.
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-4)
    assert_equal_gradients(gradients, oracle_gradients(oracle, raw, model), 1e-4)


@pytest.mark.gpu
@NO_CUDA
@pytest.mark.parametrize("suffix", [0, 2])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["no-gqa", "gqa"])
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention", "flash_attention_2"])
def test_on_cuda_in_bfloat16_it_is_as_near_to_float32_as_the_oracle_is(
    make_causal_lm: MakeLm, make_model: MakeModel, kernel: str, key_heads: int, suffix: int
) -> None:
    if kernel == "flash_attention_2":
        pytest.importorskip("flash_attn")
    changes = {**GPU, "num_key_value_heads": key_heads}
    ids_BF, labels_B = (tensor.cuda() for tensor in draw_batch(67))
    ratios = []
    for seed in range(8):
        tokens = draw_tokens(seed, suffix)
        model, oracle = make_pair(make_causal_lm, make_model, "qwen3", changes, tokens)
        model.cuda().llm.kernel = kernel
        ratios.append(distance_ratio_in_bfloat16(model, oracle.cuda(), (ids_BF, labels_B)))
    assert geometric_mean(ratios) < 1.5
