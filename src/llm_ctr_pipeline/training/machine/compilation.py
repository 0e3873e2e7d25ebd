"""Compiling a model's forward and backward pass, and when not to."""

import logging
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

logger = logging.getLogger(__name__)


def resolve_compile(requested: str, device: torch.device, passes: int = 1) -> str | None:
    """The mode of `torch.compile` to use, None for none.

    On the CPU, compiling takes longer than most runs win by it.

    Args:
        requested: As `Execution.compile`.
        device: Where the model runs.
        passes: Into how many passes a batch is cut whose gradients add up. With more than one there
            are no CUDA graphs: a graph's next run overwrites the gradients that it left.
    """
    if requested == "reduce-overhead" and passes > 1:
        logger.warning(
            "training.compile is reduce-overhead, and a batch takes %d passes, whose gradients "
            "CUDA graphs would overwrite: compiled as default",
            passes,
        )
        return "default"
    if requested == "auto":
        return "default" if device.type == "cuda" else None
    return None if requested == "off" else requested


def compiled(model: nn.Module, mode: str | None) -> nn.Module:
    """The model, compiled for the shapes that it meets; the model itself where the mode is None.

    The weights are shared with the model given.
    """
    if mode is None:
        return model
    return torch.compile(model, mode=mode, dynamic=False)  # type: ignore[return-value]


def eager_unless(worth_compiling: bool) -> AbstractContextManager[None]:
    """Run what is compiled as plain Python for batches whose shape comes too rarely.

    The last batch of an epoch has a shape of its own, and compiling for it would take longer than
    many epochs win by it.
    """
    if worth_compiling:
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
