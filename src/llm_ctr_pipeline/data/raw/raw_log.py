"""A raw log as a whole: its files, read once, checked, and the splits made of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import SPLITS, LogSchema
from llm_ctr_pipeline.data.raw.checks import (
    RawFile,
    RawFileFacts,
    check_raw_files,
    read_raw_file,
)
from llm_ctr_pipeline.data.raw.csv_text import CsvFile, open_csv
from llm_ctr_pipeline.data.raw.splits import (
    Cuts,
    find_cuts,
    in_split,
    mark_split,
    rows_in_split,
    sample,
)
from llm_ctr_pipeline.data.storage.atomic import Scratch, StoreScratch, put_in_place, scratch_beside
from llm_ctr_pipeline.data.storage.engine import named, read_parquet
from llm_ctr_pipeline.data.storage.store_path import Place, make_folder


@dataclass(frozen=True)
class RawFolder:
    """A folder of raw files and the engine that reads them.

    Attributes:
        path: The folder, which need not exist yet.
        connection: Ibis backend.
        rows: Where its rows will be in Parquet.
    """

    path: Place
    connection: BaseBackend
    rows: Place


@dataclass(frozen=True)
class RawRows:
    """A folder of a raw log's rows in Parquet, a folder of files for each CSV file.

    Attributes:
        path: The folder.
        connection: Ibis backend.
        scratch: What it lies in while it is a draft; None once it is in its place.
    """

    path: Place
    connection: BaseBackend
    scratch: Scratch | StoreScratch | None = None

    def of_file(self, split: str) -> Place:
        """Where the rows of a split's own file are."""
        return self.path / f"{split}.parquet"

    def put_in_place(self, target: Place) -> "RawRows":
        """Rename a draft, all its files at once."""
        put_in_place(self.path, target)
        if self.scratch is not None:
            self.scratch.drop()
        return RawRows(target, self.connection)


@dataclass(frozen=True)
class RawSplit:
    """The raw rows of one split.

    Attributes:
        table: As strings, and their position: a view in the engine, which may be read several
            times in one query.
        marked: What `mark_split` made of the rows of the file, to count in; a view too.
        source: Where the file's rows are, in Parquet.
        is_part: Whether there are others.
        connection: Ibis backend.
    """

    table: ir.Table
    marked: ir.Table
    source: Place
    is_part: bool
    connection: BaseBackend


def open_raw_files(folder: RawFolder, schema: LogSchema) -> dict[str, CsvFile]:
    """Check the first lines of a log's files, by split.

    Raises:
        RawLogError: If a file is missing or does not fit the description.
    """
    files = schema.splitting.files
    return {
        split: open_csv(folder.path / files[split], schema) for split in SPLITS if split in files
    }


def made_of(folder: RawFolder, schema: LogSchema, every_nth_row: int) -> dict[str, Any]:
    """What says cheaply that the same files were read in the same way; JSON types.

    Returns:
        `description`, a hash of the log's description; `files`, by name the size in bytes and
        the time of the last change in nanoseconds, None for a file that is not there.
    """
    described = json.dumps([asdict(schema), every_nth_row], sort_keys=True, default=list)
    files = {}
    for name in schema.splitting.files.values():
        path = folder.path / name
        files[name] = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None
    return {"description": hashlib.sha256(described.encode()).hexdigest(), "files": files}


def read_raw_log(
    folder: RawFolder, schema: LogSchema, every_nth_row: int
) -> tuple[RawRows, dict[str, Any]]:
    """Read a log once into a draft of its rows, check every row and count its splits.

    Args:
        folder: The log's folder.
        schema: Its description.
        every_nth_row: See `splits.sample`.

    Returns:
        The draft, beside the place that the rows are for, and what is known: `splits`, for each
        split its `file`, `rows`, `clicks` and a `fingerprint` of its rows, the SHA-256 of the
        file where they are all of it; `cuts`, where the training file is cut, None if it is not;
        `made_of`, see there.

    Raises:
        RawLogError: If there is a fault; the message says where. No draft is left then.
    """
    files = open_raw_files(folder, schema)
    source = made_of(folder, schema, every_nth_row)
    scratch = scratch_beside(folder.rows)
    try:
        draft = RawRows(scratch.path / folder.rows.name, folder.connection, scratch)
        make_folder(draft.path)
        read = {
            split: read_raw_file(folder.connection, csv, draft.of_file(split))
            for split, csv in files.items()
        }
        return draft, {**_check(folder, schema, read, every_nth_row), "made_of": source}
    except BaseException:
        scratch.drop()
        raise


def raw_splits(
    rows: RawRows, schema: LogSchema, every_nth_row: int, cuts: Mapping[str, Any] | None
) -> dict[str, RawSplit]:
    """Name the raw rows of each split of a checked log.

    Args:
        rows: The log's rows.
        schema: Its description.
        every_nth_row: As it was checked with.
        cuts: As `read_raw_log` returned them.
    """
    where = Cuts.from_dict(cuts) if cuts else None
    tables = {
        split: read_parquet(rows.connection, rows.of_file(split))
        for split in schema.splitting.files
    }
    splits = {}
    for split in SPLITS:
        source = split if split in tables else "train"
        marked = _marked(tables, split, schema, every_nth_row, where)
        is_part = marked is not tables[source]
        if is_part:
            marked = named(rows.connection, marked)
        chosen = rows_in_split(marked)
        table = marked if chosen is marked else named(rows.connection, chosen)
        splits[split] = RawSplit(table, marked, rows.of_file(source), is_part, rows.connection)
    return splits


def _check(
    folder: RawFolder, schema: LogSchema, files: Mapping[str, RawFile], every_nth_row: int
) -> dict[str, Any]:
    facts = check_raw_files(files)
    cuts = find_cuts(sample(files["train"].table, every_nth_row), schema)
    splits = {
        split: _split_facts(files, facts, split, every_nth_row, cuts).to_dict() for split in SPLITS
    }
    for split, found in splits.items():
        if found["clicks"] in (0, found["rows"]):
            label = 1 if found["clicks"] else 0
            raise RawLogError(
                f"{folder.path / found['file']}: all {found['rows']} rows of the {split} split "
                f"have the label {label} in column {schema.label!r}; both 0 and 1 are needed"
            )
    return {"splits": splits, "cuts": cuts.to_dict() if cuts else None}


def _marked(
    tables: Mapping[str, ir.Table],
    split: str,
    schema: LogSchema,
    every_nth_row: int,
    cuts: Cuts | None,
) -> ir.Table:
    table = sample(tables.get(split, tables["train"]), every_nth_row)
    return mark_split(table, split, schema, cuts)


def _split_facts(
    files: Mapping[str, RawFile],
    facts: Mapping[str, RawFileFacts],
    split: str,
    every_nth_row: int,
    cuts: Cuts | None,
) -> RawFileFacts:
    of_file = facts.get(split, facts["train"])
    cut = cuts.to_dict() if cuts is not None and split in cuts.parts else None
    if every_nth_row == 1 and cut is None:
        return of_file
    schema = files["train"].csv.schema
    tables = {name: file.table for name, file in files.items()}
    marked = _marked(tables, split, schema, every_nth_row, cuts)
    is_in = in_split(marked)
    clicks = (marked[schema.label] == "1").sum(where=is_in)
    counts = marked.aggregate(rows=marked.count(where=is_in), clicks=clicks)
    found = counts.to_pyarrow().to_pylist()[0]
    made_of = [of_file.fingerprint, every_nth_row, split, cut]
    fingerprint = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return RawFileFacts(of_file.file, found["rows"], int(found["clicks"] or 0), fingerprint)
