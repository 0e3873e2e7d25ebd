"""Compiling a model's forward and backward pass, and when not to."""

import logging
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forward:
    """A model in the two ways it is called, as Fabric set it up; the weights are the same.

    Compiling for a shape takes longer than many epochs win by it where the shape comes but once an
    epoch, as that of the last batch does. Those batches run the model itself: to tell the compiler
    to stand back would uncompile what has to be compiled in any case (FlexAttention).

    Attributes:
        plain: The model as plain Python.
        compiled: The model, compiled for the shapes that it meets; `plain` where the mode is None.
    """

    plain: nn.Module
    compiled: nn.Module

    def __call__(self, ids_BF: Tensor, *, often: bool) -> Tensor:
        """Call the model, compiled if this shape comes often."""
        log_odds_B: Tensor = (self.compiled if often else self.plain)(ids_BF)
        return log_odds_B


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


def both_ways(fabric: Fabric, model: nn.Module, plain: nn.Module, mode: str | None) -> Forward:
    """A model to call compiled or as plain Python.

    Args:
        fabric: Where it runs.
        model: The model.
        plain: The same, as `fabric` set it up.
        mode: As `resolve_compile` gives it.
    """
    return Forward(plain, plain if mode is None else fabric.setup_module(compiled(model, mode)))
