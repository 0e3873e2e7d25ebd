"""Click probabilities of a whole split.

Shape legend: N rows of the split, F fields.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_ctr_pipeline.data.batches import EncodedSplit
from llm_ctr_pipeline.training.devices import make_fabric


def predict_log_odds(
    forward: Callable[[Tensor], Tensor], split: EncodedSplit, batch_size: int, device: torch.device
) -> Tensor:
    """Score every row in the split's order.

    Args:
        forward: Model in evaluation mode: ids int `[B, F]` to log-odds `[B]`.
        split: Rows to score.
        batch_size: Rows at a time.
        device: Where the model is.

    Returns:
        Log-odds of a click, float32 on the CPU, `[N]`.
    """
    with torch.inference_mode():
        batches = torch.split(split.ids_NF, batch_size)
        scores = [forward(ids_BF.to(device)).float() for ids_BF in batches]
        return torch.cat(scores).cpu()


def probabilities(log_odds_N: Tensor) -> NDArray[np.float64]:
    """Probabilities of a click, float64 `[N]`, from log-odds `[N]`."""
    result: NDArray[np.float64] = torch.sigmoid(log_odds_N.double()).numpy()
    return result


def score_split(
    model: nn.Module, split: EncodedSplit, *, batch_size: int, device: str, precision: str
) -> NDArray[np.float64]:
    """Move a model to a device and score every row in the split's order.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`.
        split: Rows to score.
        batch_size: Rows at a time.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: One of `devices.PRECISIONS`.

    Returns:
        Probabilities of a click, float64, `[N]`.
    """
    fabric, target = make_fabric(device, precision)
    forward = fabric.setup_module(model.eval())
    return probabilities(predict_log_odds(forward, split, batch_size, target))
