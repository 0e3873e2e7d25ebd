"""Parameters of the pipelines as frozen, validated models: one per `params:` group.

Kedro hands a node one of these where its argument is annotated so, and rejects a bad
value or an unknown key before any node runs.
"""

import re
from dataclasses import fields
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationInfo,
    field_validator,
    model_validator,
)

from llm_ctr_pipeline.data.schema import (
    ABSENT,
    CATEGORICAL,
    CodeColumn,
    FieldSource,
    LogSchema,
    Splitting,
    TimeColumn,
)
from llm_ctr_pipeline.training.settings import Execution, FitSettings

PATHS = ("deepfm", "single_phase", "two_phase", "two_phase_finetuned")
FEWEST_COMPARED = 2


class Params(BaseModel):
    """What all groups share: no unknown keys, no change after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessParams(Params):
    """`params:preprocess`: how a raw log becomes model input."""

    min_count: int = Field(ge=1, description="Times a value must occur in train to get an id.")
    every_nth_row: int = Field(ge=1, description="Systematic sample of each raw file; 1 for all.")


class FieldParams(Params):
    """`log.fields`: a field that is not simply a categorical column of the same name."""

    name: str
    kind: Literal["categorical", "numeric", "hour", "day", "weekday", "weekend", "absent"] = (
        "categorical"
    )
    column: str | None = Field(default=None, description="Raw column; the name, if not given.")
    edges: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="Lower edges of a numeric field's buckets."
    )

    @model_validator(mode="after")
    def _edges_of_numbers(self) -> Self:
        if self.edges is not None and self.kind != "numeric":
            raise ValueError("only a numeric field has edges")
        return self

    def to_source(self) -> FieldSource:
        """The field as the library knows it."""
        column = None if self.kind == ABSENT else self.column or self.name
        return FieldSource(self.name, self.kind, column, self.edges)


class TimeParams(Params):
    """`log.times`: a column that holds a time."""

    column: str
    format: Literal["YYMMDDHH", "YYYY-MM-DD HH:MM:SS", "unix_seconds"]


class CodeParams(Params):
    """`log.codes`: a column of integers that stand for a part of the time."""

    column: str
    part: Literal["hour", "day", "weekday"]
    offset: int = Field(description="Value = code - offset.")
    first: int = Field(description="The lowest value.")
    last: int = Field(description="The highest value.")
    first_weekday: int | None = Field(
        default=None, ge=0, le=6, description="Of a day: the weekday of the first, 0 for Sunday."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError("first is above last")
        if self.first_weekday is not None and self.part != "day":
            raise ValueError("only a code of the day has a first_weekday")
        return self


class SplitsParams(Params):
    """`log.splits`: a file name for each split, or the share of train that is held out for it."""

    train: str = Field(min_length=1)
    valid: str | float = Field(union_mode="left_to_right")
    test: str | float = Field(union_mode="left_to_right")
    by: str = Field(description="random, or the time column after which the last rows are held out")
    seed: int = Field(ge=0, description="Seed of the draw.")

    @field_validator("valid", "test")
    @classmethod
    def _file_or_share(cls, value: str | float) -> str | float:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError("it should be a file name, or a share between 0 and 1")
        return value

    def to_splitting(self) -> Splitting:
        """The splits as the library knows them."""
        given = {"train": self.train, "valid": self.valid, "test": self.test}
        return Splitting(
            files={split: value for split, value in given.items() if isinstance(value, str)},
            shares={split: value for split, value in given.items() if isinstance(value, float)},
            by=None if self.by == "random" else self.by,
            seed=self.seed,
        )


class LogParams(Params):
    """`params:log`: what a raw log's files look like and which fields are made of them."""

    dataset: str = Field(pattern=r"^\w+$", description="Short name, as in paths below data/.")
    delimiter: str = Field(min_length=1, max_length=1)
    columns: tuple[str, ...] | None = Field(description="In order, where no header names them.")
    label: str
    ignored: tuple[str, ...]
    times: tuple[TimeParams, ...]
    codes: tuple[CodeParams, ...]
    fields: tuple[str | FieldParams, ...]
    splits: SplitsParams

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.to_schema()
        return self

    def to_schema(self) -> LogSchema:
        """The description as the library knows it.

        Raises:
            ValueError: If it contradicts itself.
        """
        return LogSchema(
            dataset=self.dataset,
            delimiter=self.delimiter,
            columns=self.columns,
            label=self.label,
            ignored=self.ignored,
            times=tuple(TimeColumn(**time.model_dump()) for time in self.times),
            codes=tuple(CodeColumn(**code.model_dump()) for code in self.codes),
            fields=tuple(
                FieldSource(field, CATEGORICAL, field)
                if isinstance(field, str)
                else field.to_source()
                for field in self.fields
            ),
            splitting=self.splits.to_splitting(),
        )


class RecodingParams(Params):
    """`recoding.x1`, `recoding.x2`: how a log written in that encoding is split."""

    valid_share: float = Field(ge=0, lt=1, description="Share of valid.csv; 0 for no such file.")
    test_share: float = Field(gt=0, lt=1, description="Share of test.csv.")
    seed: int = Field(ge=0, description="Seed of the order and the splits.")

    @model_validator(mode="after")
    def _rows_left(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave no rows to train on")
        return self


class RecodingsParams(Params):
    """`params:recoding`: x1 and x2, where they are made of the log at hand."""

    x1: RecodingParams
    x2: RecodingParams


class GeneratedLogParams(Params):
    """`params:generated_log`: the log that stands in where no raw log is given."""

    train_rows: int = Field(ge=1, description="Rows of the training split.")
    valid_rows: int = Field(ge=1, description="Rows of the validation split.")
    test_rows: int = Field(ge=1, description="Rows of the test split.")
    seed: int = Field(ge=0, description="Seed of all that is drawn.")
    click_rate: float = Field(gt=0, lt=1, description="Mean true click probability.")


class ArchiveParams(Params):
    """`download.archives`: a zip in a dataset repository of the Hugging Face hub."""

    repo_id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME on the hub.")
    file: str = Field(pattern=r"^[\w.-]+$", description="The zip's name in the repository.")
    folder: str = Field(pattern=r"^\w[\w.-]*$", description="Where it goes below data/01_raw.")
    md5: dict[str, str] = Field(min_length=1, description="MD5 by name of the raw files in it.")


class DownloadParams(Params):
    """`params:download`: which published raw logs are fetched."""

    datasets: str = Field(description="Names of archives, with spaces between them.")
    endpoint: str | None = Field(description="The hub's address; None for HF_ENDPOINT's.")
    archives: dict[str, ArchiveParams]

    @property
    def names(self) -> list[str]:
        """The archives asked for."""
        return self.datasets.split()

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        unknown = [name for name in self.names if name not in self.archives]
        if unknown or not self.names:
            raise ValueError(
                f"datasets is {self.datasets!r}: it should hold names out of "
                f"{', '.join(self.archives)}, with spaces between them"
            )
        return self


class ModelParams(Params):
    """`params:model`: the parts before the language model, and the prompt."""

    embedding_dim: int = Field(ge=1, description="Embedding size D.")
    embedding_init_std: float = Field(gt=0, description="Standard deviation embeddings start with.")
    gen_gamma: float = Field(gt=0, description="Scale of the GEN encoder's features.")
    projector_dim: int = Field(ge=1, description="Width of the projector's layer between.")
    prompt: str = Field(min_length=1, description="Text before the feature tokens.")
    prompt_suffix: str = Field(description="Text after the feature tokens.")


class ArchitectureParams(Params):
    """`llm.architecture`: a language model with random weights, by transformers' own names."""

    model_type: str = Field(description="An architecture of transformers: qwen3, llama.")
    vocab_size: int = Field(ge=258, description="Most tokens of its tokenizer; 256 are bytes.")
    hidden_size: int = Field(ge=2)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    tie_word_embeddings: bool


class LlmParams(Params):
    """`params:llm`: the language model and its attention kernel."""

    pretrained: str | None = Field(description="Name on the hub, or a folder.")
    architecture: ArchitectureParams | None = Field(description="Or: random weights.")
    attention: Literal["auto", "flash_attention_2", "sdpa", "flex_attention"]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.pretrained is None) == (self.architecture is None):
            raise ValueError(
                "llm needs either `pretrained` (a name or a folder) or `architecture` (a model "
                "with random weights), and the other one null"
            )
        return self


class DeepFmParams(Params):
    """`params:deepfm.network`: DeepFM's own parts; what it shares is in `params:model`."""

    gen: bool = Field(description="Whether its FM term takes generated features.")
    hidden_sizes: tuple[int, ...] = Field(min_length=1, description="Widths of the MLP's layers.")
    dropout: float = Field(ge=0, lt=1, description="Share of hidden activations dropped.")


class StageParams(Params):
    """`PATH.stages.STAGE`: what a stage trains on what; settings it leaves out are training's."""

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


class StagesParams(RootModel[dict[str, StageParams]]):
    """`params:PATH.stages`: a training path's stages by name, in order."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        starts = [stage.start for stage in self.root.values()]
        if not starts or starts[0] == "previous" or set(starts[1:]) - {"previous"}:
            raise ValueError(
                "a path has at least one stage; the first starts from new weights or deepfm's, all "
                "others from previous"
            )
        return self


class TrainingParams(Params):
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
    device: str = Field(description="Where to train: auto, cpu, cuda or cuda:N.")
    cpu_threads: int | None = Field(ge=1, description="Threads on the CPU; None for all cores.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    compile: Literal["auto", "off", "default", "reduce-overhead"]
    eval_batch_size: int = Field(ge=1, description="Rows at a time in scoring.")
    micro_batch_size: int | None = Field(ge=1, description="Most rows in one pass; None: picked.")
    activation_checkpointing: Literal["auto", "on", "off"]
    rows_in: Literal["auto", "memory", "stream"]
    stream_buffer_rows: int = Field(ge=1, description="Streamed rows that are shuffled together.")

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


class EvaluationParams(Params):
    """`params:evaluation`: which checkpoint is tested on which rows."""

    path: Literal["deepfm", "single_phase", "two_phase", "two_phase_finetuned"]
    dataset: str = Field(pattern=r"^\w+$")
    split: Literal["train", "valid", "test"]


class CompareParams(Params):
    """`params:compare`: which models are compared on which rows."""

    paths: str = Field(description="Training paths with spaces between them; or all.")
    runs: str = Field(description="MLflow run ids with spaces between them, instead of paths.")
    baseline: str = Field(min_length=1, description="A path, or a run's id: what others are less.")
    dataset: str = Field(pattern=r"^\w+$")
    split: Literal["train", "valid", "test"]

    @property
    def path_names(self) -> list[str]:
        """The paths asked for; empty for all that have results."""
        return [] if self.paths == "all" else self.paths.split()

    @property
    def run_ids(self) -> list[str]:
        """The MLflow runs asked for; empty for paths."""
        return self.runs.split()

    @field_validator("paths", "runs")
    @classmethod
    def _two_or_more(cls, names: str, info: ValidationInfo) -> str:
        listed = names.split()
        asked = names != {"paths": "all", "runs": ""}[str(info.field_name)]
        if asked and (len(listed) < FEWEST_COMPARED or len({*listed}) < len(listed)):
            raise ValueError("it should name two or more, each once, with spaces between them")
        return names

    @field_validator("paths")
    @classmethod
    def _known_paths(cls, paths: str) -> str:
        unknown = [path for path in paths.split() if path not in PATHS]
        if unknown and paths != "all":
            raise ValueError(f"it should be all, or names out of {', '.join(PATHS)}")
        return paths

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.path_names and self.run_ids:
            raise ValueError("compare names both paths and runs: name one kind")
        return self
