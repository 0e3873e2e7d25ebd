"""A generated log: files in Avazu's raw format with clicks of known probability.

It needs no download and tells how good a model can be at all: no ranking of the rows beats
the one by their true click probability, so that one's AUC is the best possible.
"""

import itertools
import json
from dataclasses import asdict, dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import ROW, SPLITS
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.data.storage.store_path import Place, is_whole, make_folder
from llm_ctr_pipeline.data.synthetic.avazu import AVAZU_COLUMNS
from llm_ctr_pipeline.data.synthetic.generated_rows import GeneratedRows, draw_rows

CARD_NAME = "generated_log.json"
SOURCE = "generated log"
# Raise it when the same settings begin to give other rows: logs on disk are then rewritten.
_VERSION = 1


@dataclass(frozen=True)
class GeneratedLogSettings:
    """What a generated log depends on; the same settings give the same bytes.

    Attributes:
        train_rows: Rows of train.csv.
        valid_rows: Rows of valid.csv.
        test_rows: Rows of test.csv.
        seed: Seed of all that is drawn.
        click_rate: Mean true click probability.
    """

    train_rows: int
    valid_rows: int
    test_rows: int
    seed: int
    click_rate: float

    @property
    def rows(self) -> dict[str, int]:
        """Rows by split."""
        return dict(zip(SPLITS, (self.train_rows, self.valid_rows, self.test_rows), strict=True))


def provide_generated_log(folder: Place, settings: GeneratedLogSettings) -> dict[str, Any]:
    """Write the log unless the folder already holds it with the same settings.

    Returns:
        The log's card, as `read_card` returns it.

    Raises:
        RawLogError: If the folder holds something that is no generated log.
    """
    card = read_card(folder)
    if card is None and folder.exists() and any(folder.iterdir()):
        raise RawLogError(
            f"{folder} holds files but no {CARD_NAME}, so it is no generated log and stays as "
            "it is: move them away, or point generated_dir to another folder"
        )
    complete = is_whole(folder) and all((folder / f"{split}.csv").is_file() for split in SPLITS)
    if card is not None and complete and is_of(card, settings):
        return card
    return write_generated_log(folder, settings)


def is_of(card: dict[str, Any], settings: GeneratedLogSettings) -> bool:
    """Whether a generated log's card is that of the log which settings give."""
    return (card["version"], card["settings"]) == (_VERSION, asdict(settings))


def read_card(folder: Place) -> dict[str, Any] | None:
    """Return a generated log's card: version, settings and best AUC per split.

    None where the folder holds no generated log.
    """
    path = folder / CARD_NAME
    if not path.is_file():
        return None
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return card


def first_rows(folder: Place) -> dict[str, int]:
    """Say where each split begins in the log, its files behind one another.

    Raises:
        RawLogError: If the folder holds no generated log.
    """
    card = read_card(folder)
    if card is None:
        raise RawLogError(f"{folder} holds no {CARD_NAME}, so it is no generated log")
    rows = GeneratedLogSettings(**card["settings"]).rows
    return dict(zip(rows, (0, *itertools.accumulate(rows.values())), strict=False))


def read_truth(connection: BaseBackend, folder: Place) -> ir.Table:
    """Name the true click probabilities of all rows of the log.

    Returns:
        `log_row` int64, the position in the log with train, valid and test behind one another,
        and `probability` float64.
    """
    parts = []
    for split, start in first_rows(folder).items():
        truth = read_parquet(connection, folder / f"{split}_truth.parquet")
        parts.append(truth.select(log_row=truth[ROW] + start, probability="probability"))
    return ibis.union(*parts)


def write_generated_log(folder: Place, settings: GeneratedLogSettings) -> dict[str, Any]:
    """Draw the log and put it in place of the folder, all of it or nothing.

    The folder holds `{split}.csv` in Avazu's raw columns, `{split}_truth.parquet` with
    `row` int64 and `probability` float64 in the same row order, and the card.

    Returns:
        The log's card.
    """
    drawn = draw_rows(sum(settings.rows.values()), settings.seed, settings.click_rate)
    with drafted(folder) as draft:
        make_folder(draft)
        best_auc = {}
        start = 0
        for split, rows in settings.rows.items():
            span = slice(start, start + rows)
            _write_split(draft, split, drawn, span)
            best_auc[split] = _auc(drawn, span)
            start += rows
        card = {"version": _VERSION, "settings": asdict(settings), "best_auc": best_auc}
        (draft / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _write_split(folder: Place, split: str, drawn: GeneratedRows, span: slice) -> None:
    columns = {name: column.values[column.index[span]] for name, column in drawn.columns.items()}
    columns |= {"id": drawn.ids[span], "click": drawn.clicks[span].astype(np.str_)}
    table = pa.table({name: pa.array(columns[name]) for name in AVAZU_COLUMNS})
    plain = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    with (folder / f"{split}.csv").open("wb") as file:
        file.write(f"{','.join(AVAZU_COLUMNS)}\n".encode())
        pa.csv.write_csv(table, file, plain)
    probabilities = drawn.probabilities[span]
    truth = pa.table({ROW: np.arange(len(probabilities)), "probability": probabilities})
    with (folder / f"{split}_truth.parquet").open("wb") as file:
        pa.parquet.write_table(truth, file)


def _auc(drawn: GeneratedRows, span: slice) -> float | None:
    """Return the AUC of the true probabilities; None where a split holds one class only."""
    from sklearn.metrics import roc_auc_score  # a second to import, rarely needed

    clicks = drawn.clicks[span]
    if clicks.min() == clicks.max():
        return None
    return float(roc_auc_score(clicks, drawn.probabilities[span]))
