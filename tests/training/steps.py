"""One step of training, and the gradients that it was taken with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr

Found = tuple[float, int, dict[str, Tensor]]
RunStep = Callable[..., Found]

ROWS = 12


class KeepsGradients(torch.optim.SGD):
    """Takes no step, and notes the gradients that it was asked to take one with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.0)
        self.named = dict(model.named_parameters())

    def step(self, closure: Any = None) -> None:
        self.noted = {
            name: weight.grad.clone()
            for name, weight in self.named.items()
            if weight.grad is not None
        }


def assert_same(found: Found, expected: Found, tolerance: float = 1e-5) -> None:
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    assert found[1] == expected[1]
    assert found[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        scale = gradient.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(
            found[2][name], gradient, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: n + m
        )


def plain_step(model: LlmCtr, batch: EncodedSplit) -> Found:
    """The same without any of what is tested here."""
    log_odds_B = model(batch.ids_NF)
    loss = F.binary_cross_entropy_with_logits(log_odds_B, batch.labels_N)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    right = ((log_odds_B > 0) == (batch.labels_N > 0)).sum()
    return loss.item(), int(right), dict(zip(names, gradients, strict=True))
