"""What training is told: what to learn, and how to run on this machine."""

from dataclasses import dataclass
from typing import Literal

Compile = Literal["auto", "off", "default", "reduce-overhead"]
Automatic = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Execution:
    """How training runs on this machine. Results depend on it by rounding alone.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: One of `devices.PRECISIONS`.
        eval_batch_size: Rows at a time in validation and scoring.
        micro_batch_size: Most rows in one forward and backward pass; None for as many as the
            GPU's free memory holds, and for all of a batch on the CPU.
        activation_checkpointing: Whether the language model's layers are computed again in the
            backward pass instead of kept; `auto` where not even few rows would fit otherwise.
        compile: `torch.compile`'s mode, `off`, or `auto`: `default` on a GPU, `off` on the CPU.
    """

    device: str
    precision: str
    eval_batch_size: int
    micro_batch_size: int | None = None
    activation_checkpointing: Automatic = "auto"
    compile: Compile = "auto"


@dataclass(frozen=True)
class FitSettings:
    """What one fit learns.

    Attributes:
        components: Names of the model's parts that train; None for all. All others are frozen.
        epochs: Most passes over the training rows.
        batch_size: Rows B a step.
        lr: Learning rate of all components but the encoder.
        encoder_lr: Learning rate of the encoder: the embedding and GEN.
        weight_decay: Decoupled weight decay of all parameters.
        patience: Validations without a better AUC after which training stops.
        validate_every_steps: Steps between validations within an epoch; None for none. The end of
            an epoch always validates.
        seed: Fixes the order of the rows.
        execution: How to run.
    """

    components: tuple[str, ...] | None
    epochs: int
    batch_size: int
    lr: float
    encoder_lr: float
    weight_decay: float
    patience: int
    validate_every_steps: int | None
    seed: int
    execution: Execution
