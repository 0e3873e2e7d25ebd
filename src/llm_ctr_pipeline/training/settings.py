"""What training is told: how a model learns in which stages, and how it runs on this machine.

Without torch, so that reading parameters does not import it.
"""

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from llm_ctr_pipeline.bounds import (
    BatchRows,
    Epochs,
    LearningRate,
    LeastRate,
    Minutes,
    Name,
    Norm,
    Penalty,
    Real,
    Rows,
    Seed,
    Share,
    Steps,
    StepsFromZero,
    Threads,
    TrueShare,
    Validations,
    ValidationsFromZero,
)
from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.frozen import Frozen

PathName = Literal[
    "deepfm",
    "logistic_regression",
    "dcnv2",
    "finalmlp",
    "single_phase",
    "hybrid",
    "distilled",
    "two_phase",
    "two_phase_finetuned",
]
PATHS: tuple[str, ...] = get_args(PathName)
# Those without a language model.
BASELINE_PATHS = PATHS[:4]
# A baseline that learns from another path's model.
DISTILLED_PATH = "distilled"
# Those that train on x1 and x2 before the log itself.
TWO_PHASE_PATHS = ("two_phase", "two_phase_finetuned")
LLM_CTR_COMPONENTS = ("embedding", "gen", "projector", "llm", "terms")
# Of all baselines: which of them a path's model has is known when it is made.
BASELINE_COMPONENTS = (
    *("embedding", "gen", "linear", "cross", "gate", "second_gate"),
    *("mlp", "second_mlp", "output"),
)
LrSchedule = Literal["constant", "plateau", "warmup_cosine", "warmup_linear"]
StoppingMetric = Literal["auc", "logloss"]


class Execution(Frozen):
    """How a model runs on this machine. Results depend on it by rounding alone.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        cpu_threads: Threads on the CPU; None for PyTorch's choice, all cores. One also makes
            results independent of how many cores a machine has.
        precision: One of Lightning's, or `auto`: what the device gains by.
        float32_matmul: `highest`, or `high`: float32 matrices are multiplied in TF32 where the
            device has it.
        deterministic: Whether every operation gives the same bits each time on the same GPU, at the
            price of slower ones.
        compile: `torch.compile`'s mode, `off`, or `auto`: `default` on a GPU, `off` on the CPU.
        eval_batch_size: Rows at a time in validation and scoring.
        micro_batch_size: Most rows in one forward and backward pass; None for as many as the
            GPU's free memory holds, and for all of a batch on the CPU.
        activation_checkpointing: Whether the language model's layers are computed again in the
            backward pass instead of kept; `auto` where not even few rows would fit otherwise.
        strategy: How several processes share a model that trains. `ddp`: each has all of it.
            `fsdp`: each has its part of all weights, gradients and moments, for language models
            that do not fit one GPU. `auto` is `ddp`; a single process has no use for it.
    """

    device: str
    cpu_threads: Threads | None
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    float32_matmul: Literal["highest", "high"]
    deterministic: bool
    compile: Literal["auto", "off", "default", "reduce-overhead"]
    eval_batch_size: BatchRows
    micro_batch_size: BatchRows | None
    activation_checkpointing: Literal["auto", "on", "off"]
    strategy: Literal["auto", "ddp", "fsdp"]

    @field_validator("compile", "activation_checkpointing", mode="before")
    @classmethod
    def _not_yaml(cls, value: Any) -> Any:
        # YAML and `--params` read a bare on or off as true or false.
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("it should be auto, cpu, cuda or cuda:N")
        return device


class Stage(Frozen):
    """What a stage trains on what, and the settings of `TrainingSettings` that are its own.

    Datasets and components may be one string with spaces between the names, as `--params` carries
    no lists.

    Attributes:
        datasets: In the order they are met.
        components: Names of the model's parts that train, all others are frozen; None for all.
        start: Where the weights come from: `new` ones (the language model's pretrained), new ones
            but the encoder of the trained `deepfm`, or the stage before, `previous`.
        epochs: None, here and below, for what `TrainingSettings` says.
    """

    datasets: tuple[Name, ...] = Field(min_length=1)
    components: tuple[str, ...] | None = Field(min_length=1)
    start: Literal["new", "deepfm", "previous"]
    epochs: Epochs | None = None
    batch_size: BatchRows | None = None
    lr: LearningRate | None = None
    encoder_lr: LearningRate | None = None
    lr_schedule: LrSchedule | None = None
    lr_factor: TrueShare | None = None
    lr_warmup_steps: StepsFromZero | None = None
    lr_min: LeastRate | None = None
    weight_decay: Share | None = None
    embedding_l2: Penalty | None = None
    gradient_clip_norm: Norm | None = None
    label_smoothing: Share | None = None
    id_dropout: Share | None = None
    redraw_embeddings: bool | None = None
    patience: Validations | None = None
    early_stopping_metric: StoppingMetric | None = None
    validate_every_steps: Steps | None = None

    @field_validator("datasets", "components", mode="before")
    @classmethod
    def _names(cls, names: Any) -> Any:
        return tuple(names.split()) if isinstance(names, str) else names


class Regularisation(Frozen):
    """What a step does so that the model does not learn its rows by heart.

    Attributes:
        embedding_l2: Weight λ of ½·λ·‖E‖² in the loss of each step, over all rows of the tables of
            embeddings and linear weights that train, met in the batch or not.
        gradient_clip_norm: Norm that the gradient of all weights together is scaled down to before
            a step; None for no limit.
        label_smoothing: Share ε by which labels y train as (1 − ε)·y + ε/2.
        id_dropout: Share of ids that train as id 0, "unknown"; drawn anew each step.
    """

    embedding_l2: Penalty = 0.0
    gradient_clip_norm: Norm | None = None
    label_smoothing: Share = 0.0
    id_dropout: Share = 0.0


NO_REGULARISATION = Regularisation()


class TrainingSettings(Regularisation, Execution):
    """`params:training`: how models are trained, unless a stage says otherwise, and where.

    Attributes:
        epochs: Most passes over the training rows.
        batch_size: Rows B a step.
        lr: Learning rate of all components but the encoder.
        encoder_lr: Learning rate of the encoder, embedding and GEN, and of the terms of a hybrid.
        lr_schedule: How both fall from these values; see `optimizer.learning_rate`.
        lr_factor: What `plateau` multiplies them by after each validation without a gain.
        lr_warmup_steps: Steps in which `warmup_cosine` and `warmup_linear` rise to them.
        lr_min: What no schedule goes below.
        weight_decay: Decoupled weight decay of matrices; see `optimizer.build_optimizer`.
        redraw_embeddings: Whether embeddings and linear weights start anew, as random as at first,
            with each epoch (MEDA, arXiv 2305.19531).
        patience: Validations without a better one after which training stops.
        early_stopping_metric: What is better: a higher AUC or a lower log loss of the validation
            rows; also chooses the weights that are kept.
        validate_every_steps: Steps between validations within an epoch; None for none. The end of
            an epoch always validates.
        seed: Fixes random weights and the order of the rows.
        resume: Whether to go on from an interrupted run's state, if there is one.
        keep_state_every: Validations after which a state is kept; also at the end, on Ctrl-C and on
            SIGTERM. 0 for never, whatever the next two say.
        keep_state_every_steps: Steps after which one is kept besides; None for none.
        keep_state_every_minutes: Minutes after which one is kept besides; None for none.
        rows_in: Where the training rows are held; `auto` by the memory that is free.
        stream_buffer_rows: Streamed rows that are shuffled together.
    """

    epochs: Epochs
    batch_size: BatchRows
    lr: LearningRate
    encoder_lr: LearningRate
    lr_schedule: LrSchedule
    lr_factor: TrueShare
    lr_warmup_steps: StepsFromZero
    lr_min: LeastRate
    weight_decay: Share
    redraw_embeddings: bool
    patience: Validations
    early_stopping_metric: StoppingMetric
    validate_every_steps: Steps | None
    seed: Seed
    resume: bool
    keep_state_every: ValidationsFromZero
    keep_state_every_steps: Steps | None
    keep_state_every_minutes: Minutes | None
    rows_in: Literal["auto", "memory", "stream"]
    stream_buffer_rows: Rows

    def of(self, stage: Stage) -> Self:
        """The settings of a stage: its own before these."""
        apart = {"datasets", "components", "start"}
        return self.model_copy(update=stage.model_dump(exclude=apart, exclude_none=True))


class TeacherSettings(Frozen):
    """`params:distilled.teacher`: whose log-odds a model learns beside the labels; see `Teaching`.

    Attributes:
        path: The training path whose best model teaches.
        weight: Share w of the loss that is the teacher's: 0 for the labels alone, 1 for none of
            them.
        temperature: What both models' log-odds are divided by in the teacher's share.
    """

    path: PathName
    weight: Real = Field(ge=0, le=1)
    temperature: Real = Field(ge=0.01, le=1000)

    @field_validator("path")
    @classmethod
    def _of_another_path(cls, path: str) -> str:
        if path == DISTILLED_PATH:
            raise ValueError(f"{path} learns from another path's model, not from its own")
        return path


class Stages(RootModel[dict[str, Stage]]):
    """A training path's stages by name, in order.

    Attributes:
        COMPONENTS: Names of the parts of the path's model.
        STARTS: Where the weights of its first stage may come from.
        FEWEST: How many stages it has at least.
    """

    model_config = ConfigDict(frozen=True)

    COMPONENTS: ClassVar[tuple[str, ...]] = LLM_CTR_COMPONENTS
    STARTS: ClassVar[tuple[str, ...]] = ("new",)
    FEWEST: ClassVar[int] = 1

    @model_validator(mode="after")
    def _that_the_path_can_have(self) -> Self:
        starts = [stage.start for stage in self.root.values()]
        if len(starts) < self.FEWEST:
            raise ValueError(f"this path needs stages, {self.FEWEST} or more")
        if starts[0] not in self.STARTS or set(starts[1:]) - {"previous"}:
            raise ValueError(
                f"start is {', '.join(starts)}: this path's first stage starts from "
                f"{' or '.join(self.STARTS)}, all others from previous"
            )
        for name, stage in self.root.items():
            unknown = [part for part in stage.components or () if part not in self.COMPONENTS]
            if unknown:
                raise ValueError(
                    f"{name} trains {', '.join(unknown)}: the components of this path's model are "
                    f"{', '.join(self.COMPONENTS)}"
                )
        return self

    def without(self, frozen: str, parts: Iterable[str]) -> Self:
        """The same stages, with a component of the model that none of them trains.

        Args:
            frozen: The component.
            parts: All components of the model.

        Raises:
            SettingsError: A stage trains nothing else.
        """
        stages = {}
        for name, stage in self.root.items():
            left = tuple(part for part in stage.components or parts if part != frozen)
            if not left:
                raise SettingsError(
                    f"stage {name} trains {frozen} alone, and {frozen}.freeze is true: set it to "
                    f"false, or name other components in this stage"
                )
            stages[name] = stage.model_copy(update={"components": left})
        return type(self)(stages)


class BaselineStages(Stages):
    """The stages of a baseline's path."""

    COMPONENTS = BASELINE_COMPONENTS


class TwoPhaseStages(Stages):
    """The stages of `two_phase` and `two_phase_finetuned`.

    The first stage's checkpoint is kept beside the last one's.
    """

    STARTS = ("new", "deepfm")
    FEWEST = 2
