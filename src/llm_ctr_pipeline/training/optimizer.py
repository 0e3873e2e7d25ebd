"""The optimiser: AdamW with one learning rate for the encoder and one for all behind it."""

import torch
from torch import nn

ENCODER = ("embedding", "gen")


def build_optimizer(
    model: nn.Module, lr: float, encoder_lr: float, weight_decay: float
) -> torch.optim.AdamW:
    """Group the model's parameters by component and optimise each with its learning rate.

    Args:
        model: Its direct children named in `ENCODER` are the encoder.
        lr: Learning rate of all other components (projector, language model).
        encoder_lr: Learning rate of the encoder.
        weight_decay: Decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101).
    """
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (encoder if name.split(".")[0] in ENCODER else rest).append(parameter)
    groups = [{"params": encoder, "lr": encoder_lr}, {"params": rest, "lr": lr}]
    # Fused: one kernel for all parameters, and no host synchronisation with loss scaling.
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
