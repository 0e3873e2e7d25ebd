"""Click probabilities of a whole split.

Shape legend: N rows of the split, F fields.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.training.machine.compilation import Forward, both_ways, resolve_compile
from llm_ctr_pipeline.training.machine.devices import (
    make_fabric,
    refusing_what_is_not_deterministic,
)
from llm_ctr_pipeline.training.machine.memory import naming_the_setting
from llm_ctr_pipeline.training.settings import Execution


def predict_log_odds(
    forward: Forward, split: EncodedSplit, batch_size: int, device: torch.device
) -> Tensor:
    """Score every row in the split's order; as `score_ids`, float32 `[N]` on the CPU."""
    return score_ids(forward, split.ids_NF, batch_size, device).cpu()


def score_ids(forward: Forward, ids_NF: Tensor, batch_size: int, device: torch.device) -> Tensor:
    """Score rows in their order.

    Args:
        forward: Model in evaluation mode: ids int `[B, F]` to log-odds float `[B]`.
        ids_NF: Ids within each field, int `[N, F]`.
        batch_size: Rows at a time.
        device: Where the model is.

    Returns:
        Log-odds of a click, float32 on the device, `[N]`.

    Raises:
        DeviceMemoryError: The device's memory does not hold so many rows at a time.
    """
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
    forward, device = forward_on_device(model, execution)
    return probabilities(predict_log_odds(forward, split, execution.eval_batch_size, device))


def forward_on_device(model: nn.Module, execution: Execution) -> tuple[Forward, torch.device]:
    """Move a model to the device that the settings name, in evaluation mode.

    Returns:
        What `score_ids` calls, and the device.

    Raises:
        DeviceError: The device or the precision is not to be had.
    """
    fabric, _ = make_fabric(execution, model)
    plain = fabric.setup_module(model.eval())
    mode = resolve_compile(execution.compile, fabric.device)
    return both_ways(fabric, model, plain, mode), fabric.device


def scoring(
    model: nn.Module, execution: Execution
) -> Callable[[NDArray[np.int32]], NDArray[np.float64]]:
    """Move a model to a device, to score rows that come one lot after the other.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`.
        execution: On which device, in which precision, how many rows at a time.

    Returns:
        Of ids int32 `[N, F]` the probabilities of a click, float64, `[N]`. Lots of a multiple of
        `eval_batch_size` rows give what all rows at once would, to the last digit.
    """
    forward, device = forward_on_device(model, execution)

    @refusing_what_is_not_deterministic()
    def score(ids_NF: NDArray[np.int32]) -> NDArray[np.float64]:
        ids = torch.from_numpy(ids_NF)
        log_odds_N = score_ids(forward, ids, execution.eval_batch_size, device)
        return probabilities(log_odds_N.cpu())

    return score
