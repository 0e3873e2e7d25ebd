"""Compiling a model's forward and backward pass, and when not to."""

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


class Forward(nn.Module):
    """A model in the two ways it is called; the weights are the same.

    Compiling for a shape takes longer than many epochs win by it where the shape comes but once an
    epoch, as that of the last batch does. Those batches run the model itself: to tell the compiler
    to stand back would uncompile what has to be compiled in any case (FlexAttention).

    Args:
        model: The model.
        mode: As `resolve_compile` gives it; `compile_as` sets another.
    """

    def __init__(self, model: nn.Module, mode: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.compile_as(mode)

    def compile_as(self, mode: str | None) -> None:
        """Compile the model for the shapes that come often; None for no shapes."""
        # In a tuple, so that the weights belong to one module alone.
        self._compiled = (compiled(self.model, mode),)

    def forward(self, ids_BF: Tensor, *, often: bool = False) -> Tensor:
        """Call the model, compiled if this shape comes often."""
        log_odds_B: Tensor = (self._compiled[0] if often else self.model)(ids_BF)
        return log_odds_B


def resolve_compile(
    requested: str,
    device: torch.device,
    passes: int = 1,
    ranks: int = 1,
    *,
    sharded: bool = False,
) -> str | None:
    """The mode of `torch.compile` to use, None for none.

    On the CPU, compiling takes longer than most runs win by it.

    Args:
        requested: As `Execution.compile`.
        device: Where the model runs.
        passes: Into how many passes a batch is cut whose gradients add up. With more than one there
            are no CUDA graphs: a graph's next run overwrites the gradients that it left.
        ranks: Processes that train together: with more than one there are none either, as what
            sends the gradients is no part of a graph.
        sharded: Whether each of them has its part of the weights; then nothing is compiled.
    """
    if sharded:
        if requested not in {"auto", "off"}:
            logger.warning(
                "training.compile is %s, and training.strategy is fsdp, whose gathering of the "
                "weights is not compiled: off",
                requested,
            )
        return None
    if requested == "reduce-overhead" and ranks > 1:
        logger.warning(
            "training.compile is reduce-overhead, and %d processes train together, whose gradients "
            "CUDA graphs would not send: compiled as default",
            ranks,
        )
        return "default"
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
