"""Parameters of raw logs: where they come from, what they look like, what is made of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from llm_ctr_pipeline.data.log.schema import (
    ABSENT,
    CATEGORICAL,
    CodeColumn,
    FieldSource,
    LogSchema,
    Splitting,
    TimeColumn,
)
from llm_ctr_pipeline.frozen import Frozen


class PreprocessParams(Frozen):
    """`params:preprocess`: how a raw log becomes model input."""

    min_count: int = Field(ge=1, description="Times a value must occur in train to get an id.")
    every_nth_row: int = Field(ge=1, description="Systematic sample of each raw file; 1 for all.")


class FieldParams(Frozen):
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


class TimeParams(Frozen):
    """`log.times`: a column that holds a time."""

    column: str
    format: Literal["YYMMDDHH", "YYYY-MM-DD HH:MM:SS", "unix_seconds"]


class CodeParams(Frozen):
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


class SplitsParams(Frozen):
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


def _form_of_field(value: Any) -> str:
    return "name" if isinstance(value, str) else "field"


# Told apart by hand, or an error in one form would be followed by "it is not of the other".
AnyFieldParams = Annotated[
    Annotated[str, Tag("name")] | Annotated[FieldParams, Tag("field")],
    Discriminator(_form_of_field),
]


class LogParams(Frozen):
    """`params:log`: what a raw log's files look like and which fields are made of them."""

    dataset: str = Field(pattern=r"^\w+$", description="Short name, as in paths below data/.")
    delimiter: str = Field(min_length=1, max_length=1)
    columns: tuple[str, ...] | None = Field(description="In order, where no header names them.")
    label: str
    ignored: tuple[str, ...]
    times: tuple[TimeParams, ...]
    codes: tuple[CodeParams, ...]
    fields: tuple[AnyFieldParams, ...]
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


class ArchiveParams(Frozen):
    """`download.archives`: a zip in a dataset repository of the Hugging Face hub."""

    repo_id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME on the hub.")
    file: str = Field(pattern=r"^[\w.-]+$", description="The zip's name in the repository.")
    folder: str = Field(pattern=r"^\w[\w.-]*$", description="Where it goes below data/01_raw.")
    md5: dict[str, str] = Field(min_length=1, description="MD5 by name of the raw files in it.")


class DownloadParams(Frozen):
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
