"""Parameters of training: the stages of a path, and how and where they run."""

import re
from dataclasses import fields
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.training.settings import Execution, FitSettings

# Names of the models' parts, here because reading parameters must not import torch.
LLM_CTR_COMPONENTS = ("embedding", "gen", "projector", "llm")
DEEPFM_COMPONENTS = ("embedding", "gen", "linear", "mlp", "output")


class StageParams(Frozen):
    """`PATH.stages.STAGE`: what a stage trains on what; settings it leaves out are training's.

    Datasets and components may be one string with spaces between the names, as `--params` carries
    no lists.
    """

    datasets: tuple[str, ...] = Field(min_length=1, description="In the order they are met.")
    components: tuple[str, ...] | None = Field(
        min_length=1, description="What trains, None for all; others are frozen."
    )
    start: Literal["new", "deepfm", "previous"] = Field(
        description="Where the weights come from: new ones (the language model's pretrained), new "
        "ones but the encoder of the trained deepfm, or the stage before."
    )
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=1, ge=1)
    lr: float = Field(default=0.1, gt=0, lt=1)
    encoder_lr: float = Field(default=0.1, gt=0, lt=1)
    weight_decay: float = Field(default=0, ge=0, lt=1)
    patience: int = Field(default=1, ge=1)
    validate_every_steps: int | None = Field(default=None, ge=1)

    @field_validator("datasets", "components", mode="before")
    @classmethod
    def _names(cls, names: Any) -> Any:
        return tuple(names.split()) if isinstance(names, str) else names


class StagesParams(RootModel[dict[str, StageParams]]):
    """`params:PATH.stages`: a training path's stages by name, in order.

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
    def _in_order(self) -> Self:
        starts = [stage.start for stage in self.root.values()]
        if len(starts) < self.FEWEST:
            raise ValueError(f"this path needs stages, {self.FEWEST} or more")
        if starts[0] not in self.STARTS or set(starts[1:]) - {"previous"}:
            raise ValueError(
                f"start is {', '.join(starts)}: this path's first stage starts from "
                f"{' or '.join(self.STARTS)}, all others from previous"
            )
        return self

    @model_validator(mode="after")
    def _known_components(self) -> Self:
        for name, stage in self.root.items():
            unknown = [part for part in stage.components or () if part not in self.COMPONENTS]
            if unknown:
                raise ValueError(
                    f"{name} trains {', '.join(unknown)}: the components of this path's model are "
                    f"{', '.join(self.COMPONENTS)}"
                )
        return self


class DeepFmStagesParams(StagesParams):
    """`params:deepfm.stages`."""

    COMPONENTS = DEEPFM_COMPONENTS


class TwoPhaseStagesParams(StagesParams):
    """`params:two_phase.stages` and `params:two_phase_finetuned.stages`.

    The first stage's checkpoint is kept beside the last one's.
    """

    STARTS = ("new", "deepfm")
    FEWEST = 2


class TrainingParams(Frozen):
    """`params:training`: how models are trained, unless a stage says otherwise, and where."""

    epochs: int = Field(ge=1, description="Most passes over the training rows.")
    batch_size: int = Field(ge=1, description="Rows a step.")
    lr: float = Field(gt=0, lt=1, description="Learning rate of all but the encoder.")
    encoder_lr: float = Field(gt=0, lt=1, description="Learning rate of embedding and GEN.")
    weight_decay: float = Field(ge=0, lt=1, description="Decoupled weight decay.")
    patience: int = Field(ge=1, description="Validations without a better AUC before stopping.")
    validate_every_steps: int | None = Field(ge=1, description="Validations within an epoch.")
    seed: int = Field(ge=0, description="Fixes random weights and the order of rows.")
    resume: bool = Field(description="Go on from an interrupted run's state, if there is one.")
    keep_state_every: int = Field(ge=0, description="Validations between states; 0 keeps none.")
    device: str = Field(description="Where to train: auto, cpu, cuda or cuda:N.")
    cpu_threads: int | None = Field(ge=1, description="Threads on the CPU; None for all cores.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    compile: Literal["auto", "off", "default", "reduce-overhead"]
    eval_batch_size: int = Field(ge=1, description="Rows at a time in scoring.")
    micro_batch_size: int | None = Field(ge=1, description="Most rows in one pass; None: picked.")
    activation_checkpointing: Literal["auto", "on", "off"]
    rows_in: Literal["auto", "memory", "stream"]
    stream_buffer_rows: int = Field(ge=1, description="Streamed rows that are shuffled together.")

    @field_validator("compile", "activation_checkpointing", mode="before")
    @classmethod
    def _not_yaml(cls, value: Any) -> Any:
        # YAML and `--params` read a bare on or off as true or false.
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    def to_execution(self) -> Execution:
        """How to run, as the library knows it."""
        names = {field.name for field in fields(Execution)}
        return Execution(**self.model_dump(include=names))

    def to_fit_settings(self, stage: StageParams) -> FitSettings:
        """What a stage learns, as the library knows it."""
        names = {field.name for field in fields(FitSettings)}
        own = stage.model_dump(include=names, exclude_unset=True)
        shared = self.model_dump(include=names)
        return FitSettings(**{**shared, **own}, execution=self.to_execution())

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("it should be auto, cpu, cuda or cuda:N")
        return device
