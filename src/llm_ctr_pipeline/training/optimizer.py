"""Which weights train, and AdamW with one learning rate for the encoder and one for the rest."""

from collections.abc import Collection

import torch
from torch import nn

from llm_ctr_pipeline.data.errors import RefusedError

ENCODER = ("embedding", "gen")


class UnknownComponentError(RefusedError, ValueError):
    """A component that is to train is no part of the model."""


def weights_of(model: nn.Module, components: Collection[str] | None) -> list[nn.Parameter]:
    """The weights of a model's direct children of these names; of all for None."""
    return [
        weight
        for name, weight in model.named_parameters()
        if components is None or name.split(".")[0] in components
    ]


def freeze_all_but(model: nn.Module, components: Collection[str] | None) -> None:
    """Let the named parts of a model train and freeze all others; None for none.

    A frozen part computes no gradients of its weights and gets no optimiser state.
    """
    model.requires_grad_(False)
    for weight in weights_of(model, components):
        weight.requires_grad_(True)


def check_components(model: nn.Module, components: Collection[str] | None) -> None:
    """Refuse names that are no parts of a model.

    Args:
        model: Its direct children are the components.
        components: Names of those that are to train; None for all.

    Raises:
        UnknownComponentError: The model has no such part, or none is named.
    """
    present = [name for name, child in model.named_children() if list(child.parameters())]
    unknown = [name for name in components or () if name not in present]
    if unknown or (components is not None and not components):
        raise UnknownComponentError(
            f"a stage trains {', '.join(unknown) or 'no component'}; the components of "
            f"{type(model).__name__} are {', '.join(present)}"
        )


def build_optimizer(
    model: nn.Module, lr: float, encoder_lr: float, weight_decay: float
) -> torch.optim.AdamW:
    """Optimise the encoder's weights and all others, each with its learning rate.

    Args:
        model: Its direct children named in `ENCODER` are the encoder. Frozen weights are left out.
        lr: Learning rate of all other components.
        encoder_lr: Learning rate of the encoder.
        weight_decay: Decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101).
    """
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            (encoder if name.split(".")[0] in ENCODER else rest).append(weight)
    groups = [{"params": encoder, "lr": encoder_lr}, {"params": rest, "lr": lr}]
    # Fused: one kernel for all parameters, and no host synchronisation with loss scaling.
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
