"""Parameters of the pipelines that belong to the application, as frozen, validated models.

Those of the models, of training and of logs stand in the library. Kedro hands a node one of these
where its argument is annotated so, and rejects a bad value or an unknown key before any node runs.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from llm_ctr_pipeline.bounds import Count, Name, Rows, unit
from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.hub.archive import Archive
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.settings import SERVING_PRECISIONS, ServingPrecision
from llm_ctr_pipeline.training.settings import BASELINE_PATHS, DISTILLED_PATH, PATHS, PathName

FEWEST_COMPARED = 2


class RawParams(Frozen):
    """`params:raw`, `params:x1.raw`, `params:x2.raw`: what the raw folder holds."""

    source: Literal["folder", "generated", "recoded"] = Field(
        description="A log of its own; or one that is written there: the generated log, or the log "
        "at hand in another encoding."
    )


class PreprocessParams(Frozen):
    """`params:preprocess`: how a raw log becomes model input."""

    min_count: Rows = Field(description="Times a value must occur in train to get an id.")
    every_nth_row: Rows = Field(description="Systematic sample of each raw file; 1 for all.")


class DownloadParams(Frozen):
    """`params:download`: which published raw logs are fetched."""

    datasets: str = Field(description="Names of archives, with spaces between them.")
    endpoint: str | None = Field(
        pattern=r"^https?://\S+$", description="The hub's address; None for HF_ENDPOINT's."
    )
    archives: dict[str, Archive] = Field(description="Those that there are, by name.")

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


class EvaluationParams(Frozen):
    """`params:evaluation`: which checkpoint is tested on which rows."""

    path: PathName = Field(description="The training path whose checkpoint it is.")
    model: Literal["best_model", "phase_1_model"] = Field(
        description="Its best checkpoint, or that of a two-phase path's first stage."
    )
    dataset: Name = Field(description="Name of the log whose rows they are, as x4.")
    split: Literal["train", "valid", "test"] = Field(description="Which of its rows.")
    group_by: Name | None = Field(description="The field within whose values gAUC ranks the rows.")
    serving_precision: ServingPrecision | None = Field(
        default=None, description="As served, the language model in it; None as trained."
    )

    def group_position(self, fields: Sequence[str]) -> int | None:
        """Where among the fields that one stands; None where there is to be no gAUC.

        Raises:
            SettingsError: It is none of them.
        """
        if self.group_by is None:
            return None
        if self.group_by not in fields:
            raise SettingsError(
                f"evaluation.group_by is {self.group_by}, which is no field of {self.dataset}: its "
                f"fields are {', '.join(fields)}"
            )
        return fields.index(self.group_by)


class PredictParams(Frozen):
    """`params:predict`: which raw rows are scored with which checkpoint."""

    path: PathName = Field(description="The training path whose checkpoint it is.")
    model: Literal["best_model", "phase_1_model"] = Field(
        description="Its best checkpoint, or that of a two-phase path's first stage."
    )
    input: str | None = Field(
        min_length=1,
        max_length=4096,
        description="A CSV or Parquet file with the log's columns, or a folder of such files; None "
        "where nothing is scored.",
    )
    keep: str = Field(
        max_length=20_000, description="Raw columns to be written too, with spaces between them."
    )
    on_bad_row: Literal["refuse", "null"] = Field(
        description="Whether a row that cannot be scored ends the run, or gets no probability."
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns to keep."""
        return tuple(dict.fromkeys(self.keep.split()))

    @field_validator("on_bad_row", mode="before")
    @classmethod
    def _not_yaml(cls, value: object) -> object:
        return "null" if value is None else value  # as --params and YAML read a bare null


class RegisterParams(Frozen):
    """`params:register`: which trained model MLflow's registry gets under which name."""

    path: PathName = Field(description="The training path whose checkpoint it is.")
    name: str | None = Field(
        min_length=1, max_length=256, pattern=r"^[^/:]+$", description="Of the registered model."
    )
    alias: str | None = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[\w-]+$",
        description="What the new version is called too; None for no alias.",
    )


class ExportParams(Frozen):
    """`params:export`: which checkpoint is written in which format."""

    path: PathName = Field(description="The training path whose checkpoint it is.")
    model: Literal["best_model", "phase_1_model"] = Field(
        description="Its best checkpoint, or that of a two-phase path's first stage."
    )
    to: Literal["huggingface", "torch", "compiled", "onnx"] = Field(
        description="The language model for transformers; or the whole scorer, ids to probability."
    )


class CompareParams(Frozen):
    """`params:compare`: which models are compared on which rows."""

    paths: str = Field(description="Training paths with spaces between them; or all.")
    runs: str = Field(description="MLflow run ids with spaces between them, instead of paths.")
    baseline: str = Field(
        min_length=1, max_length=64, description="A path, or a run's id: what others are less."
    )
    dataset: Name = Field(description="Name of the log whose rows they are, as x4.")
    split: Literal["train", "valid", "test"] = Field(description="Which of its rows.")
    seeds: Annotated[Count, unit("trainings")] = Field(
        description="Of each path; those not in its folder by MLflow."
    )

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
        with_llm = {*PATHS} - {*BASELINE_PATHS, DISTILLED_PATH}
        served = {f"{path}/{precision}" for path in with_llm for precision in SERVING_PRECISIONS}
        unknown = [path for path in paths.split() if path not in {*PATHS} | served]
        if unknown and paths != "all":
            raise ValueError(
                f"it should be all, or names out of {', '.join(PATHS)}, with "
                f"/{', /'.join(SERVING_PRECISIONS)} behind one with a language model, as served"
            )
        return paths

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.path_names and self.run_ids:
            raise ValueError("compare names both paths and runs: name one kind")
        if self.run_ids and self.seeds > 1:
            raise ValueError("compare.seeds is for paths: name all the runs in compare.runs")
        if self.seeds > 1 and "/" in self.paths:
            raise ValueError("compare.seeds is for paths as trained: of those as served take 1")
        return self
