"""A raw log as a whole: its files read once, checked, and the splits made of them."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError, StaleDataError
from llm_ctr_pipeline.data.log.schema import ROW, SPLITS, LogSchema
from llm_ctr_pipeline.data.raw.checks import RawFile, check_raw_files, read_raw_file
from llm_ctr_pipeline.data.raw.csv_text import CsvFile, open_csv
from llm_ctr_pipeline.data.raw.manifest import (
    MANIFEST,
    LogOrigin,
    RawLog,
    RawManifest,
    ReadFile,
    SplitCounts,
)
from llm_ctr_pipeline.data.raw.splits import find_cuts, in_split, mark_split, rows_in_split, sample
from llm_ctr_pipeline.data.storage.engine import named, read_parquet
from llm_ctr_pipeline.data.storage.record_text import from_text, to_text
from llm_ctr_pipeline.data.storage.store_path import (
    AnyPath,
    digest_of_files,
    parse_path,
    parts_of,
)


@dataclass(frozen=True)
class RawRows:
    """A log's rows in Parquet, a folder of files for each CSV file.

    Attributes:
        path: The folder.
        manifest: What they were read from.
        connection: Ibis backend.
    """

    path: AnyPath
    manifest: RawManifest
    connection: BaseBackend

    def path_of(self, split: str) -> AnyPath:
        """Where the rows of a split's own file are."""
        return self.path / f"{split}.parquet"

    @cached_property
    def tables(self) -> dict[str, ir.Table]:
        """The rows of each file, by the split whose own it is."""
        return {
            split: read_parquet(self.connection, self.path_of(split))
            for split in self.manifest.files
        }


@dataclass(frozen=True)
class RawSplit:
    """The raw rows of one split.

    Attributes:
        table: As strings, and their position: a view in the engine, which may be read several
            times in one query.
        marked: What `mark_split` made of the rows of the file, to count in; a view too.
        source: Where the file's rows are, in Parquet.
        is_part: Whether there are others.
    """

    table: ir.Table
    marked: ir.Table
    source: AnyPath
    is_part: bool


def describe_files(folder: AnyPath, log: LogSchema, origin: LogOrigin | None = None) -> RawManifest:
    """Say what a folder's raw files are, as cheaply as it can be told whether they changed.

    Without an origin the source is named as the folder.

    Returns:
        The manifest, without fingerprints and without files that are not there.
    """
    files = {}
    for split, name in log.splits.files.items():
        path = folder / name
        if path.is_file():
            stat = path.stat()
            files[split] = ReadFile(file=name, size=stat.st_size, changed_ns=stat.st_mtime_ns)
    origin = origin or LogOrigin(source=folder.name)
    return RawManifest(**dict(origin), log=log, folder=str(folder), files=files)


def open_raw_files(folder: AnyPath, log: LogSchema) -> dict[str, CsvFile]:
    """Check the first line of each of a log's files, before the rows of one are read.

    Raises:
        RawLogError: If a file is missing or does not fit the description.
    """
    return {split: open_csv(folder / name, log) for split, name in log.splits.files.items()}


def write_raw_rows(connection: BaseBackend, unread: RawManifest, folder: AnyPath) -> None:
    """Read each file once and write its rows, and what they were read from, to a new folder.

    Raises:
        RawLogError: If a file cannot be used; the message says where.
    """
    opened = open_raw_files(parse_path(unread.folder), unread.log)
    folder.mkdir()
    read = {}
    for split, csv in opened.items():
        rows = folder / f"{split}.parquet"
        fingerprint = read_raw_file(connection, csv, rows)
        update = {"fingerprint": fingerprint, "rows": digest_of_files(parts_of(rows))}
        read[split] = unread.files[split].model_copy(update=update)
    manifest = unread.model_copy(update={"files": read})
    (folder / MANIFEST).write_text(to_text(manifest), encoding="utf-8")


def open_raw_rows(connection: BaseBackend, folder: AnyPath) -> RawRows:
    """Name the rows that `write_raw_rows` wrote; none of them is read yet.

    Raises:
        RecordError: The manifest is not as it was written.
    """
    with (folder / MANIFEST).open("rb") as file:
        manifest = from_text(RawManifest, file.read())
    return RawRows(folder, manifest, connection)


def check_raw_rows(rows: RawRows) -> None:
    """See that the files in Parquet are those that were written.

    Raises:
        StaleDataError: A split's are others.
    """
    for split, read in rows.manifest.files.items():
        path = rows.path_of(split)
        if digest_of_files(parts_of(path)) != read.rows:
            raise StaleDataError(f"{path} is damaged, or not what {MANIFEST} beside it names")


def check_raw_log(rows: RawRows, every_nth_row: int) -> RawLog:
    """Check every row of a log and count its splits, of a sample of the rows; see `sample`.

    Raises:
        RawLogError: If there is a fault; the message says where.
    """
    log, folder = rows.manifest.log, parse_path(rows.manifest.folder)
    files = {
        split: RawFile(folder / read.file, log, rows.tables[split], read.fingerprint)
        for split, read in rows.manifest.files.items()
    }
    counts = check_raw_files(files)
    cuts = find_cuts(sample(files["train"].table, every_nth_row), log)
    checked = RawLog(**dict(rows.manifest), splits=counts, cuts=cuts, every_nth_row=every_nth_row)
    opened = CheckedLog(rows, checked)
    splits = {split: _count(opened, split) for split in SPLITS}
    for split, found in splits.items():
        if found.clicks in (0, found.rows):
            label = 1 if found.clicks else 0
            raise RawLogError(
                f"{folder / found.file}: all {found.rows} rows of the {split} split "
                f"have the label {label} in column {log.label!r}; both 0 and 1 are needed"
            )
    return checked.model_copy(update={"splits": splits})


def first_rows(rows: ir.Table, log: LogSchema, number: int = 2) -> tuple[dict[str, str], ...]:
    """The first rows of a file: by raw column a cell; neither the label nor what is ignored."""
    columns = [name for name in rows.columns if name not in {ROW, log.label, *log.ignored}]
    first = rows.filter(rows[ROW] < number).order_by(ROW).select(*columns)
    return tuple(first.to_pyarrow().to_pylist())


@dataclass(frozen=True)
class CheckedLog:
    """A checked log with its rows, from which its splits are taken.

    Attributes:
        rows: The rows.
        raw_log: What the check found.
    """

    rows: RawRows
    raw_log: RawLog

    def __post_init__(self) -> None:
        """Refuse rows that were read again since.

        Raises:
            RawLogError: The check was of other rows.
        """
        if self.rows.manifest.files != self.raw_log.files:
            raise RawLogError(
                f"{self.rows.path} holds other rows than those that were checked: the raw log was "
                "read again, and refused or not checked to the end"
            )

    def split(self, name: str) -> RawSplit:
        """The raw rows of a split."""
        source, marked = self._source(name), self.marked(name)
        is_part = marked is not self.rows.tables[source]
        if is_part:
            marked = named(self.rows.connection, marked)
        table = rows_in_split(marked)
        if table is not marked:
            table = named(self.rows.connection, table)
        return RawSplit(table, marked, self.rows.path_of(source), is_part)

    def marked(self, name: str) -> ir.Table:
        """The rows of the file that a split is made of, those of the split marked."""
        table = sample(self.rows.tables[self._source(name)], self.raw_log.every_nth_row)
        return mark_split(table, name, self.raw_log.log, self.raw_log.cuts)

    def _source(self, split: str) -> str:
        """The split whose file a split's rows are in."""
        return split if split in self.rows.manifest.files else "train"


def _count(checked: CheckedLog, split: str) -> SplitCounts:
    """What a split holds: what its file holds, if it is all of one."""
    raw_log = checked.raw_log
    of_file = raw_log.splits.get(split, raw_log.splits["train"])
    cuts = raw_log.cuts
    cut = cuts.to_json() if cuts is not None and split in cuts.parts else None
    if raw_log.every_nth_row == 1 and cut is None:
        return of_file
    marked = checked.marked(split)
    is_in = in_split(marked)
    clicks = (marked[raw_log.log.label] == "1").sum(where=is_in)
    counts = marked.aggregate(rows=marked.count(where=is_in), clicks=clicks)
    found = counts.to_pyarrow().to_pylist()[0]
    part = [of_file.fingerprint, raw_log.every_nth_row, split, cut]
    return SplitCounts(
        file=of_file.file,
        rows=found["rows"],
        clicks=int(found["clicks"] or 0),
        fingerprint=hashlib.sha256(json.dumps(part).encode()).hexdigest(),
    )
