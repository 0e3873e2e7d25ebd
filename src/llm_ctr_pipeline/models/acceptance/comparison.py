"""Whether a decoder computes what the language model that it was made of computes by itself.

At the small weights that a model starts with, attention is nearly even, caps of logits do nothing
and what leaks from one row into another is lost in rounding. The two are compared at large and
irregular weights instead, at which each part of the model matters.

Shape legend: B rows, F feature tokens, H hidden size, P prompt tokens, S suffix tokens.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.errors import RefusedError, first_line
from llm_ctr_pipeline.models.acceptance.configuration import INSTEAD
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError

TOLERANCE = 1e-4  # of the largest logit
GAIN = 2.0  # of a matrix, where 1 keeps the size of what it is multiplied with
ROWS = 2  # what leaks from a row leaks into the next one


@dataclass(frozen=True)
class OwnAnswers:
    """What a language model answers by itself.

    Attributes:
        features_BFH: Random feature tokens, float32.
        logits_B2: Logits of the two answers, float32.
    """

    features_BFH: Tensor
    logits_B2: Tensor


@contextmanager
def stirred(model: nn.Module) -> Iterator[None]:
    """Make a model's weights large and irregular for a while; they come back bit for bit.

    Matrices are multiplied by powers of two, which loses no bit, until they have `GAIN`. Vectors,
    and matrices that are zero, get noise, and are kept aside.
    """
    generator = torch.Generator().manual_seed(0)
    kept: list[tuple[Tensor, Tensor]] = []
    scaled: list[tuple[Tensor, float]] = []
    weights: list[Tensor] = list(model.parameters())
    with torch.no_grad():
        for weight in weights:
            size = weight.norm().item() / math.sqrt(max(weight.numel(), 1))
            target = GAIN * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.3
            if weight.ndim > 1 and 0 < size < math.inf:
                scaled.append((weight, 2.0 ** max(0, round(math.log2(target / size)))))
                weight.mul_(scaled[-1][1])
            else:
                kept.append((weight, weight.clone()))
                weight.add_(target * torch.randn(weight.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, factor in scaled:
                weight.div_(factor)
            for weight, before in kept:
                weight.copy_(before)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn whatever a model that does not fit runs into into a refusal.

    Args:
        name: The model's class.
    """
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        # The code that ran is transformers', of any architecture: it can raise anything.
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UnsupportedModelError(
            f"{name} cannot run with a shared prefix ({reason}): {INSTEAD}"
        ) from error


def own_answers(causal_lm: PreTrainedModel, tokens: PromptTokens, fields: int) -> OwnAnswers:
    """Compute what the untouched model answers to rows of random feature tokens.

    Raises:
        UnsupportedModelError: The answers are no numbers.
    """
    embed = causal_lm.get_input_embeddings()
    generator = torch.Generator().manual_seed(0)
    features_BFH = torch.randn(ROWS, fields, embed.weight.shape[1], generator=generator)
    causal_lm.eval()
    with torch.no_grad():
        prompt_BPH = embed(torch.tensor(tokens.prompt)).expand(ROWS, -1, -1)
        suffix_BSH = embed(torch.tensor(tokens.suffix, dtype=torch.long)).expand(ROWS, -1, -1)
        row_embeddings = torch.cat([prompt_BPH, features_BFH, suffix_BSH], dim=1)
        logits = causal_lm(inputs_embeds=row_embeddings, use_cache=False).logits
    logits_B2 = logits[:, -1, list(tokens.answers)].float()
    if not logits_B2.isfinite().all():
        raise UnsupportedModelError(
            f"{type(causal_lm).__name__} answers {logits_B2.tolist()}, which are no numbers: its "
            "weights are damaged, fetch it again"
        )
    return OwnAnswers(features_BFH, logits_B2)


def check_answers(decoder: nn.Module, expected: OwnAnswers, name: str) -> None:
    """Refuse a decoder that answers anything but what its language model does.

    Args:
        decoder: Takes feature tokens and returns logits of the two answers.
        expected: What the language model answers by itself.
        name: The language model's class.

    Raises:
        UnsupportedModelError: Says how the two differ.
    """
    tolerance = TOLERANCE * float(expected.logits_B2.abs().max())

    def agree(actual: Tensor, wanted: Tensor) -> bool:
        return torch.allclose(actual, wanted, rtol=0, atol=tolerance)

    with torch.no_grad():
        if agree(decoder.train()(expected.features_BFH), expected.logits_B2):
            return
        actual_B2 = decoder.eval()(expected.features_BFH)
        alone_B2 = torch.cat([decoder(row_FH[None]) for row_FH in expected.features_BFH])
    if agree(actual_B2, expected.logits_B2):
        reason = "computes in training what it does not compute in evaluation, such as dropout"
    elif not agree(actual_B2, alone_B2):
        reason = "mixes tokens by more than plain attention, so that rows would not be independent"
    else:
        reason = (
            "does something with its prompt, positions or logits that the decoder does not "
            f"reproduce (logits {actual_B2.tolist()} instead of {expected.logits_B2.tolist()})"
        )
    raise UnsupportedModelError(f"{name} {reason}: {INSTEAD}")
