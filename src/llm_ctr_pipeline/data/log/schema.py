"""What a raw log's files look like and which fields are made of their columns."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

SPLITS: tuple[str, ...] = ("train", "valid", "test")

ROW = "row"
# Named so that no raw column is likely to be called the same.
POSITION = "position_in_file"
# What a cell that holds a delimiter or a line break begins and ends with.
QUOTE = '"'
LABEL = "label"

CATEGORICAL, NUMERIC, ABSENT = "categorical", "numeric", "absent"
HOUR, DAY, WEEKDAY, WEEKEND = "hour", "day", "weekday", "weekend"
DAYS_OF_WEEK = 7
# Kinds of fields that are parts of a time, and which code column can give them.
TIME_PARTS: Mapping[str, str] = {HOUR: HOUR, DAY: DAY, WEEKDAY: WEEKDAY, WEEKEND: WEEKDAY}

_FIELD_NAME = re.compile(r"[A-Za-z]\w*")
_RESERVED = (ROW, LABEL)
_NO_DELIMITERS = ('"', "\n", "\r")


@dataclass(frozen=True)
class FieldSource:
    """One field and where its values come from.

    Attributes:
        name: Its name in the unified schema.
        kind: `categorical`, `numeric`, a part of a time (`hour`, `day`, `weekday`,
            `weekend`), or `absent` where this log lacks the field: then every row has id 0.
        column: The raw column; None for an absent field.
        edges: Of a numeric field: its buckets' lower edges, ascending; None for the buckets
            ⌊ln(x)²⌋ of the Criteo challenge.
    """

    name: str
    kind: str
    column: str | None
    edges: tuple[float, ...] | None = None


@dataclass(frozen=True)
class TimeColumn:
    """A raw column that holds a time as text.

    Attributes:
        column: Its name.
        format: A name in `times.FORMATS`.
    """

    column: str
    format: str


@dataclass(frozen=True)
class CodeColumn:
    """A raw column of integers that stand for a part of the time: value = code - offset.

    Attributes:
        column: Its name.
        part: `hour`, `day` or `weekday` (0 or 7 for Sunday).
        offset: What is taken from each code.
        first: The lowest value.
        last: The highest value.
        first_weekday: Of a `day`: the weekday of the first one, against which the log's code
            of the weekday is checked; None for no such check.
    """

    column: str
    part: str
    offset: int
    first: int
    last: int
    first_weekday: int | None = None


@dataclass(frozen=True)
class Splitting:
    """Where each split's rows come from.

    Attributes:
        files: File names by split; always one for `train`.
        shares: Share of the training file's rows that is held out, by split without a file.
        by: The time column after which the last rows are held out; None for rows drawn at
            random, the stated share of each class.
        seed: Seed of the draw.
    """

    files: Mapping[str, str]
    shares: Mapping[str, float]
    by: str | None
    seed: int


@dataclass(frozen=True)
class LogSchema:
    """One log: the format of its files, their columns and the fields made of them.

    Attributes:
        dataset: Short name of the log, as in file and catalog names: `x4`.
        delimiter: What stands between two cells, one ASCII character.
        columns: The columns in order, for files without a header line; None for files with
            one, which may hold the columns in any order.
        label: Raw column of the label, `0` or `1`.
        ignored: Raw columns that nothing is made of.
        times: Raw columns that hold a time.
        codes: Raw columns that hold a part of the time as an integer code. One that no field
            uses is still checked.
        fields: The fields in order.
        splitting: Where each split's rows come from.
    """

    dataset: str
    delimiter: str
    columns: tuple[str, ...] | None
    label: str
    ignored: tuple[str, ...]
    times: tuple[TimeColumn, ...]
    codes: tuple[CodeColumn, ...]
    fields: tuple[FieldSource, ...]
    splitting: Splitting

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself.

        Raises:
            ValueError: What is wrong, in one line.
        """
        if self.delimiter in _NO_DELIMITERS or not self.delimiter.isascii():
            raise ValueError(f"{self.delimiter!r} cannot stand between two cells")
        _check_names(self)
        _check_columns(self)
        for field in self.fields:
            _check_source(self, field)
        _check_splitting(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def time_fields(self) -> tuple[str, ...]:
        """The fields that are parts of a time: their values mean the same in every log."""
        return tuple(field.name for field in self.fields if field.kind in TIME_PARTS)

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Every column of the raw files; in their order where there is no header line."""
        if self.columns is not None:
            return self.columns
        return _used_columns(self)

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


def _check_names(schema: LogSchema) -> None:
    if not schema.fields:
        raise ValueError("no fields are given: at least one is needed")
    repeated = [name for name, times in Counter(schema.names).items() if times > 1]
    if repeated:
        raise ValueError(f"the field {repeated[0]!r} is given twice")
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
    both = [name for name in schema.ignored if name == schema.label or name in of_fields]
    if both:
        raise ValueError(f"the column {both[0]!r} is both ignored and used")
    if schema.label in of_fields:
        raise ValueError(f"the label's column {schema.label!r} cannot be a field")
    described = Counter(_described_columns(schema))
    for name, times in described.items():
        if times > 1:
            raise ValueError(f"the column {name!r} is described twice, as a time or as codes")
    _check_case("columns", schema.raw_columns)
    if schema.columns is None:
        return
    if len(set(schema.columns)) < len(schema.columns):
        name = Counter(schema.columns).most_common(1)[0][0]
        raise ValueError(f"columns names {name!r} twice")
    used = _used_columns(schema)
    unknown = [name for name in used if name not in schema.columns]
    unused = [name for name in schema.columns if name not in used]
    if unknown:
        raise ValueError(f"the column {unknown[0]!r} is used, but columns does not name it")
    if unused:
        raise ValueError(f"columns names {unused[0]!r}, which is neither used nor ignored")


def _check_source(schema: LogSchema, field: FieldSource) -> None:
    if (field.column is None) != (field.kind == ABSENT):
        raise ValueError(f"the field {field.name!r} needs a column, unless it is absent")
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


def _check_splitting(schema: LogSchema) -> None:
    splitting = schema.splitting
    for name, times in Counter(splitting.files.values()).items():
        if times > 1:
            raise ValueError(f"the file {name!r} is given for {times} splits: give each its own")
    if sum(splitting.shares.values()) >= 1:
        raise ValueError("the shares held out of train leave no rows for it")
    if splitting.by is not None and schema.time_of(splitting.by) is None:
        raise ValueError(
            f"the splits are by {splitting.by!r}, which is not among the times: "
            "name one of them, or random"
        )
