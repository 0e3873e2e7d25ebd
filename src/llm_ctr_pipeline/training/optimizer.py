"""Which weights train, by AdamW, at which learning rates, and what keeps them small."""

import math
from collections.abc import Collection

import torch
from torch import nn

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.layers import FieldEmbedding
from llm_ctr_pipeline.training.ranks.shards import as_held
from llm_ctr_pipeline.training.settings import TrainingSettings

# What learns at `encoder_lr`; the terms beside a decoder are a plain CTR model, and learn as one.
ENCODER = ("embedding", "gen", "terms")


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
    """Refuse names of components, a model's direct children, that are no parts of it.

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

    Matrices alone decay. Norms, biases and vectors do not, nor do tables of which a step meets some
    rows (embeddings, the vocabulary, the answers): all other rows would shrink without a gradient.

    Args:
        model: Its direct children named in `ENCODER` are the encoder. Frozen weights are left out.
        lr: Learning rate of all other components.
        encoder_lr: Learning rate of the encoder.
        weight_decay: Decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101).
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            is_matrix = weight.ndim > 1 and not name.endswith(("bias", "answer_rows"))
            decay = weight_decay if is_matrix and id(weight) not in tables else 0.0
            rate = encoder_lr if name.split(".")[0] in ENCODER else lr
            groups.setdefault((rate, decay), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": weights, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), weights in groups.items()
        ],
        # One kernel for all parameters, and no host synchronisation with loss scaling.
        fused=True,
    )


def learning_rate(
    initial: float, settings: TrainingSettings, step: int, last_step: int, drops: int
) -> float:
    """The learning rate of a step.

    - `constant`: the initial one;
    - `plateau`: the initial one times `lr_factor` for each validation without a gain;
    - `warmup_cosine`, `warmup_linear`: up in a line over `lr_warmup_steps`, then down by half a
      cosine (Loshchilov & Hutter, arXiv 1608.03983) or in a line to 0 at the end of all epochs.

    All that it depends on is in the training state already, so it needs none of its own.

    Args:
        initial: The rate that the settings name.
        settings: Name the schedule; none goes below their `lr_min`, but for a lower `initial`.
        step: Steps taken before this one.
        last_step: Steps of all epochs.
        drops: Validations without a gain so far.
    """
    schedule, warmup = settings.lr_schedule, settings.lr_warmup_steps
    share = 1.0
    if schedule == "plateau":
        share = settings.lr_factor**drops
    elif schedule != "constant" and step < warmup:
        share = (step + 1) / warmup
    elif schedule != "constant":
        done = (step - warmup) / max(1, last_step - warmup)
        share = 0.5 * (1 + math.cos(math.pi * done)) if schedule == "warmup_cosine" else 1 - done
    return min(initial, max(settings.lr_min, initial * share))


def set_learning_rates(
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    step: int,
    last_step: int,
    drops: int,
) -> float:
    """Set what `learning_rate` says for each group; return that of all but the encoder."""
    for group in optimizer.param_groups:
        initial = group["initial_lr"]
        group["lr"] = learning_rate(initial, settings, step, last_step, drops)
    return learning_rate(settings.lr, settings, step, last_step, drops)


def trained_tables(model: nn.Module) -> list[FieldEmbedding]:
    """The tables of embeddings and of linear weights that train."""
    tables = (module for module in model.modules() if isinstance(module, FieldEmbedding))
    return [module for module in tables if module.table.weight.requires_grad]


def redraw_embeddings(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Let the tables that train start anew, and the optimiser know nothing of what they were.

    Args:
        model: On any device; the random rows are drawn on the CPU.
        optimizer: Of its weights.
        seed: Fixes the random rows.
    """
    generator = torch.Generator().manual_seed(seed)
    for embedding in trained_tables(model):
        weight = embedding.table.weight
        with torch.no_grad():
            weight.copy_(as_held(embedding.drawn_rows(generator), weight))
        optimizer.state.pop(weight, None)
