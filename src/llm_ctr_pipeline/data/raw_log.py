"""A raw log as a whole: its checked files and the splits made of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.raw_check import RawFileFacts, check_raw_files
from llm_ctr_pipeline.data.raw_csv import RawFile, open_raw_file
from llm_ctr_pipeline.data.schema import SPLITS, LogSchema
from llm_ctr_pipeline.data.splits import Cuts, find_cuts, sample, take_split


@dataclass(frozen=True)
class RawFolder:
    """A folder of raw files and the engine that reads them.

    Attributes:
        path: The folder, which need not exist yet.
        connection: Ibis backend.
    """

    path: Path
    connection: BaseBackend


def open_raw_files(folder: RawFolder, schema: LogSchema) -> dict[str, RawFile]:
    """Check the first lines of a log's files and name their rows, by split.

    Raises:
        RawLogError: If a file is missing or does not fit the description.
    """
    files = schema.splitting.files
    return {
        split: open_raw_file(folder.connection, folder.path / files[split], schema)
        for split in SPLITS
        if split in files
    }


def check_raw_log(folder: RawFolder, schema: LogSchema, every_nth_row: int) -> dict[str, Any]:
    """Check every row of a log and count its splits.

    Returns:
        `splits`: for each split its `file`, `rows`, `clicks` and a `fingerprint` of its rows,
        the SHA-256 of the file where they are all of it. `cuts`: where the training file is
        cut, None if it is not.

    Raises:
        RawLogError: If there is a fault; the message says where.
    """
    files = open_raw_files(folder, schema)
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


def raw_splits(
    folder: RawFolder, schema: LogSchema, every_nth_row: int, cuts: Mapping[str, Any] | None
) -> dict[str, ir.Table]:
    """Name the raw rows of each split of a checked log.

    Args:
        folder: The log's folder.
        schema: Its description.
        every_nth_row: As it was checked with.
        cuts: As `check_raw_log` returned them.
    """
    files = open_raw_files(folder, schema)
    where = Cuts.from_dict(cuts) if cuts else None
    return {split: _rows_of(files, split, every_nth_row, where) for split in SPLITS}


def _rows_of(
    files: Mapping[str, RawFile], split: str, every_nth_row: int, cuts: Cuts | None
) -> ir.Table:
    file = files.get(split, files["train"])
    return take_split(sample(file.table, every_nth_row), split, file.schema, cuts)


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
    table = _rows_of(files, split, every_nth_row, cuts)
    label = table[files["train"].schema.label]
    counts = table.aggregate(rows=table.count(), clicks=(label == "1").sum())
    found = counts.to_pyarrow().to_pylist()[0]
    made_of = [of_file.fingerprint, every_nth_row, split, cut]
    fingerprint = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return RawFileFacts(of_file.file, found["rows"], int(found["clicks"] or 0), fingerprint)
