"""What a raw log's files look like and which fields are made of their columns."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from llm_ctr_pipeline.bounds import FileName, Name, Real, Seed, Whole
from llm_ctr_pipeline.frozen import Frozen

SPLITS: tuple[str, ...] = ("train", "valid", "test")

# Columns of every table of rows: the 0-based position in the raw file, and the label.
ROW = "row"
LABEL = "label"
# What a cell that holds a delimiter or a line break begins and ends with.
QUOTE = '"'

CATEGORICAL, NUMERIC, ABSENT = "categorical", "numeric", "absent"
HOUR, DAY, WEEKDAY, WEEKEND = "hour", "day", "weekday", "weekend"
DAYS_OF_WEEK = 7
# Kinds of fields that are parts of a time, and which code column can give them.
TIME_PARTS: Mapping[str, str] = {HOUR: HOUR, DAY: DAY, WEEKDAY: WEEKDAY, WEEKEND: WEEKDAY}

_FIELD_NAME = re.compile(r"[A-Za-z]\w*")
_RESERVED = (ROW, LABEL)
_NO_DELIMITERS = (QUOTE, "\n", "\r")


class FieldSource(Frozen):
    """One field and where its values come from; a name alone is a categorical column's."""

    name: str
    kind: Literal["categorical", "numeric", "hour", "day", "weekday", "weekend", "absent"] = (
        "categorical"
    )
    column: str | None = Field(
        default=None,
        description="Raw column, by default the field's name; None for an absent field: then "
        "every row has id 0.",
    )
    edges: tuple[Real, ...] | None = Field(
        default=None,
        min_length=1,
        description="Lower edges of a numeric field's buckets, ascending; None for the buckets "
        "⌊ln(x)²⌋ of the Criteo challenge.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_a_name(cls, given: Any) -> Any:
        content = {"name": given} if isinstance(given, str) else given
        if not isinstance(content, dict):
            return content
        is_absent = content.get("kind") == ABSENT
        column = None if is_absent else content.get("column") or content.get("name")
        return {**content, "column": column}

    @model_validator(mode="after")
    def _edges_of_numbers(self) -> Self:
        if self.edges is not None and self.kind != NUMERIC:
            raise ValueError("only a numeric field has edges")
        return self

    @model_serializer(mode="wrap")
    def _as_a_name(self, serialise: SerializerFunctionWrapHandler) -> Any:
        is_plain = (self.kind, self.column) == (CATEGORICAL, self.name)
        return self.name if is_plain else serialise(self)


class TimeColumn(Frozen):
    """A raw column that holds a time as text, in one of `times.FORMATS`."""

    column: str
    format: Literal["YYMMDDHH", "YYYY-MM-DD HH:MM:SS", "unix_seconds"]


class CodeColumn(Frozen):
    """A raw column of integers that stand for a part of the time: value = code - offset."""

    column: str
    part: Literal["hour", "day", "weekday"] = Field(description="A weekday is 0 or 7 for Sunday.")
    offset: Whole = Field(description="What is taken from each code.")
    first: Whole = Field(description="The lowest value.")
    last: Whole = Field(description="The highest value.")
    first_weekday: Whole | None = Field(
        default=None,
        ge=0,
        le=6,
        description="Of a day: the weekday of the first one, 0 for Sunday, against which the "
        "log's code of the weekday is checked; None for no such check.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError("first is above last")
        if self.first_weekday is not None and self.part != DAY:
            raise ValueError("only a code of the day has a first_weekday")
        return self


class Splitting(Frozen):
    """For each split the name of its file, or the share of the training file held out for it."""

    train: FileName = Field(description="The file of the training rows.")
    valid: FileName | Real = Field(
        union_mode="left_to_right",
        description="The validation rows' file, or their share of train's.",
    )
    test: FileName | Real = Field(
        union_mode="left_to_right", description="The test rows' file, or their share of train's."
    )
    by: str = Field(
        description="`random`, the stated share of each class, or the time column after which "
        "the last rows are held out."
    )
    seed: Seed = Field(description="Seed of the draw.")

    @field_validator("valid", "test")
    @classmethod
    def _file_or_share(cls, value: str | float) -> str | float:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError("it should be a file name, or a share between 0 and 1")
        return value

    @property
    def files(self) -> dict[str, str]:
        """File names by split; always one for `train`."""
        return {split: name for split in SPLITS if isinstance(name := getattr(self, split), str)}

    @property
    def shares(self) -> dict[str, float]:
        """The share of the training file's rows that is held out, by split without a file."""
        return {
            split: share for split in SPLITS if isinstance(share := getattr(self, split), float)
        }

    @property
    def time_column(self) -> str | None:
        """The column by which rows are held out; None for rows drawn at random."""
        return None if self.by == "random" else self.by


class LogSchema(Frozen):
    """`params:log`: the format of a log's files, their columns and the fields made of them."""

    dataset: Name = Field(description="Short name, as in file names: `x4`.")
    delimiter: str = Field(min_length=1, max_length=1, description="An ASCII character.")
    columns: tuple[str, ...] | None = Field(
        description="The columns in order, for files without a header line; None for files with "
        "one, which may hold the columns in any order."
    )
    label: str = Field(min_length=1, description="Raw column of the label, `0` or `1`.")
    ignored: tuple[str, ...] = Field(description="Raw columns that nothing is made of.")
    times: tuple[TimeColumn, ...] = Field(description="Raw columns that hold a time as text.")
    codes: tuple[CodeColumn, ...] = Field(
        description="Raw columns of codes; one that no field uses is still checked."
    )
    fields: tuple[FieldSource, ...] = Field(description="What the model reads, in order.")
    splits: Splitting

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.delimiter in _NO_DELIMITERS or not self.delimiter.isascii():
            raise ValueError(f"{self.delimiter!r} cannot stand between two cells")
        _check_names(self)
        _check_columns(self)
        for field in self.fields:
            _check_source(self, field)
        _check_splits(self)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def time_fields(self) -> tuple[str, ...]:
        """The fields that are parts of a time: their values mean the same in every log."""
        return tuple(field.name for field in self.fields if field.kind in TIME_PARTS)

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """The raw columns that fields are made of, each once."""
        return tuple(dict.fromkeys(f.column for f in self.fields if f.column is not None))

    @property
    def numeric_columns(self) -> frozenset[str]:
        """Those of them whose cells are read as numbers."""
        return frozenset(str(field.column) for field in self.fields if field.kind == NUMERIC)

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Every column of the raw files; in their order where there is no header line."""
        return _used_columns(self) if self.columns is None else self.columns

    def time_of(self, column: str) -> TimeColumn | None:
        """The time that a column holds, if it does."""
        return next((time for time in self.times if time.column == column), None)

    def code_of(self, column: str) -> CodeColumn | None:
        """The code that a column holds, if it does."""
        return next((code for code in self.codes if code.column == column), None)


def _used_columns(schema: LogSchema) -> tuple[str, ...]:
    """The columns that the description names, each once: ignored ones, label, then the others."""
    of_fields = (field.column for field in schema.fields if field.column is not None)
    return tuple(
        dict.fromkeys((*schema.ignored, schema.label, *_described_columns(schema), *of_fields))
    )


def _described_columns(schema: LogSchema) -> tuple[str, ...]:
    """The columns of times and of codes."""
    return (*(time.column for time in schema.times), *(code.column for code in schema.codes))


def repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once."""
    return [name for name, times in Counter(names).items() if times > 1]


def _check_names(schema: LogSchema) -> None:
    if not schema.fields:
        raise ValueError("no fields are given: at least one is needed")
    for name in repeated(schema.names):
        raise ValueError(f"the field {name!r} is given twice")
    _check_case("fields", schema.names)
    for name in schema.names:
        if not _FIELD_NAME.fullmatch(name) or name.lower() in _RESERVED:
            raise ValueError(
                f"{name!r} cannot be a field's name: letters, digits and underscores, a letter "
                f"first, and not {' or '.join(_RESERVED)}; give it another with "
                "{name: ..., column: ...}"
            )


def _check_case(what: str, names: tuple[str, ...]) -> None:
    """Refuse names that are one name to an engine: SQL does not tell upper from lower case."""
    first_as: dict[str, str] = {}
    for name in names:
        twin = first_as.setdefault(name.lower(), name)
        if twin != name:
            raise ValueError(f"the {what} {twin!r} and {name!r} differ by case alone: rename one")


def _check_columns(schema: LogSchema) -> None:
    of_fields = {field.column for field in schema.fields}
    for name in schema.ignored:
        if name == schema.label or name in of_fields:
            raise ValueError(f"the column {name!r} is both ignored and used")
    if schema.label in of_fields:
        raise ValueError(f"the label's column {schema.label!r} cannot be a field")
    for name in repeated(_described_columns(schema)):
        raise ValueError(f"the column {name!r} is described twice, as a time or as codes")
    _check_case("columns", schema.raw_columns)
    for name in schema.raw_columns:
        if name.lower() == ROW and name not in schema.ignored:
            raise ValueError(
                f"the column {name!r} cannot be used: rows are numbered under this name; rename it"
            )
    if schema.columns is not None:
        _check_listed(schema.columns, _used_columns(schema))


def _check_listed(columns: tuple[str, ...], used: tuple[str, ...]) -> None:
    for name in repeated(columns):
        raise ValueError(f"columns names {name!r} twice")
    for name in used:
        if name not in columns:
            raise ValueError(f"the column {name!r} is used, but columns does not name it")
    for name in columns:
        if name not in used:
            raise ValueError(f"columns names {name!r}, which is neither used nor ignored")


def _check_source(schema: LogSchema, field: FieldSource) -> None:
    if field.edges is not None and list(field.edges) != sorted(set(field.edges)):
        raise ValueError(f"the edges of the field {field.name!r} must ascend")
    if field.kind not in TIME_PARTS or field.column is None:
        return
    code = schema.code_of(field.column)
    if schema.time_of(field.column) is None and code is None:
        raise ValueError(
            f"the field {field.name!r} is a part of a time, but its column {field.column!r} "
            "stands neither among the times nor among the codes"
        )
    if code is not None and code.part != TIME_PARTS[field.kind]:
        raise ValueError(
            f"the field {field.name!r} is of kind {field.kind}, but the codes of its column "
            f"{field.column!r} stand for the {code.part}"
        )


def _check_splits(schema: LogSchema) -> None:
    splits = schema.splits
    for name, times in Counter(splits.files.values()).items():
        if times > 1:
            raise ValueError(f"the file {name!r} is given for {times} splits: give each its own")
    if sum(splits.shares.values()) >= 1:
        raise ValueError("the shares held out of train leave no rows for it")
    if splits.time_column is not None and schema.time_of(splits.time_column) is None:
        raise ValueError(
            f"the splits are by {splits.by!r}, which is not among the times: "
            "name one of them, or random"
        )
