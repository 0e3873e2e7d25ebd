"""Click probabilities of a whole split.

Shape legend: N rows of the split, F fields.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.training.machine.compilation import Forward, resolve_compile
from llm_ctr_pipeline.training.machine.devices import (
    make_fabric,
    refusing_what_is_not_deterministic,
)
from llm_ctr_pipeline.training.machine.memory import naming_the_setting
from llm_ctr_pipeline.training.ranks.group import ranks
from llm_ctr_pipeline.training.ranks.jobs import share
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.signals import deferred_stop


def score_ids(
    forward: Callable[..., Tensor], ids_NF: Tensor, batch_size: int, device: torch.device
) -> Tensor:
    """Score rows in their order.

    Args:
        forward: A model as `Forward`, in evaluation mode.
        ids_NF: Ids within each field, int `[N, F]`.
        batch_size: Rows at a time.
        device: Where the model is.

    Returns:
        Log-odds of a click, float32 on the device, `[N]`.

    Raises:
        DeviceMemoryError: The device's memory does not hold so many rows at a time.
    """
    if len(ids_NF) == 0:
        return torch.empty(0, device=device)
    lower = f"lower training.eval_batch_size (now {batch_size})"
    scores = []
    with torch.inference_mode(), naming_the_setting(lower):
        for ids_BF in torch.split(ids_NF, batch_size):
            log_odds_B = forward(ids_BF.to(device), often=len(ids_BF) == batch_size)
            # A CUDA graph writes its next result where this one lies.
            scores.append(log_odds_B.float().clone())
        return torch.cat(scores)


def probabilities(log_odds_N: Tensor) -> NDArray[np.float64]:
    """Probabilities of a click, float64 `[N]`, from log-odds `[N]`."""
    result: NDArray[np.float64] = torch.sigmoid(log_odds_N.double()).numpy()
    return result


def score_shared(
    forward: Callable[..., Tensor], ids_NF: Tensor, batch_size: int, device: torch.device
) -> Tensor | None:
    """Score rows that all ranks have, each its share of them.

    Returns:
        In the leader what `score_ids` gives of all rows, to the last digit, on the CPU; in the
        others None.
    """
    here = ranks()
    own = here.own(len(ids_NF), batch_size)
    log_odds_N = score_ids(forward, ids_NF[own], batch_size, device).cpu()
    # Where each rank has a part of the weights, all must take as many passes.
    passes = [math.ceil(rows / batch_size) for rows in (len(ids_NF), len(log_odds_N))]
    for _ in range(passes[1], math.ceil(passes[0] / here.count)):
        score_ids(forward, ids_NF[:1], batch_size, device)
    scores = here.to_leader(log_odds_N)
    return torch.cat(scores) if scores else None


@refusing_what_is_not_deterministic()
def score_split(model: nn.Module, split: EncodedSplit, execution: Execution) -> NDArray[np.float64]:
    """Move a model to a device and score every row in the split's order.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`.
        split: Rows to score.
        execution: On which device, in which precision, how many rows at a time.

    Returns:
        Probabilities of a click, float64, `[N]`.
    """
    return scoring(model, execution)(split.ids_NF.numpy())


def forward_on_device(model: nn.Module, execution: Execution) -> tuple[nn.Module, torch.device]:
    """Move a model to the device that the settings name, in evaluation mode.

    Returns:
        What `score_ids` calls, and the device.

    Raises:
        DeviceError: The device or the precision is not to be had.
    """
    fabric, _ = make_fabric(execution, model)
    mode = resolve_compile(execution.compile, fabric.device)
    return fabric.setup_module(Forward(model.eval(), mode)), fabric.device


Score = Callable[[NDArray[np.int32]], NDArray[np.float64]]


def scoring(model: nn.Module, execution: Execution) -> Score:
    """Move a model to a device, to score rows that come one lot after the other.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`.
        execution: On which device, in which precision, how many rows at a time.

    Returns:
        Of ids int32 `[N, F]` the probabilities of a click, float64, `[N]`. Lots of a multiple of
        `eval_batch_size` rows give what all rows at once would, to the last digit.
    """
    share(ScoringJob(model, execution))
    score_dealt = _score_dealt(model, execution)

    def score(ids_NF: NDArray[np.int32]) -> NDArray[np.float64]:
        share(LotJob())
        shares = [
            replace(ranks(), index=rank).own(len(ids_NF), execution.eval_batch_size)
            for rank in range(ranks().count)
        ]
        with deferred_stop() as stop:
            log_odds_N = score_dealt([ids_NF[own] for own in shares])
        stop.raise_if_arrived()
        return probabilities(torch.cat(log_odds_N))

    return score


def _score_dealt(
    model: nn.Module, execution: Execution
) -> Callable[[Sequence[NDArray[np.int32]] | None], list[Tensor]]:
    """Score the rows that the leader deals out; it gets all scores, by rank."""
    forward, device = forward_on_device(model, execution)

    @refusing_what_is_not_deterministic()
    def score(by_rank: Sequence[NDArray[np.int32]] | None) -> list[Tensor]:
        here = ranks()
        ids = torch.from_numpy(here.dealt(by_rank))
        return here.to_leader(score_ids(forward, ids, execution.eval_batch_size, device).cpu())

    return score


@dataclass(frozen=True)
class ScoringJob:
    """Has a rank make ready for lots of rows to score.

    Attributes:
        model: Ids int `[B, F]` to log-odds float `[B]`.
        execution: On which device, in which precision, how many rows at a time.
    """

    model: nn.Module
    execution: Execution

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """See `Job`."""
        return (self.model,)

    def run(self, _kept: Any) -> Callable[[None], list[Tensor]]:
        """Return what scores a lot."""
        return _score_dealt(self.model, self.execution)


@dataclass(frozen=True)
class LotJob:
    """Has a rank score its share of a lot, by what a `ScoringJob` gave."""

    models: tuple[nn.Module, ...] = ()

    def run(self, kept: Any) -> Any:
        """Score it."""
        with deferred_stop() as stop:
            kept(None)
        stop.raise_if_arrived()
        return kept
