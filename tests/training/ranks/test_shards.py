"""Which strategy a setting comes to; what several processes do with it is in `test_jobs.py`."""

import pytest
import torch
from torch import nn

from llm_ctr_pipeline.training.ranks import shards
from llm_ctr_pipeline.training.ranks.group import Ranks
from llm_ctr_pipeline.training.ranks.shards import resolve_strategy


@pytest.mark.parametrize(
    ("requested", "count", "strategy"),
    [
        ("auto", 1, "none"),
        ("auto", 2, "ddp"),
        ("ddp", 2, "ddp"),
        ("fsdp", 1, "none"),
        ("fsdp", 2, "fsdp"),
    ],
)
def test_the_strategy_that_a_setting_comes_to(
    monkeypatch: pytest.MonkeyPatch, requested: str, count: int, strategy: str
) -> None:
    monkeypatch.setattr(shards, "ranks", lambda: Ranks(0, count))
    assert resolve_strategy(requested, nn.Linear(2, 2)) == strategy


def test_a_model_with_a_single_number_is_not_shared_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shards, "ranks", lambda: Ranks(0, 2))
    model = nn.Linear(2, 2)
    model.register_parameter("bias", nn.Parameter(torch.zeros(())))
    assert resolve_strategy("fsdp", model) == "ddp"
    assert "no weight that is a single number, as Linear has one: trained as ddp" in caplog.text
