"""What a raw folder is to hold: a log of its own, or one that is made here."""

from collections.abc import Callable
from typing import Literal

from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.raw.manifest import LogOrigin
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parse_path
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import (
    RecodedLog,
    RecodedRows,
    Recoding,
    provide_recoded_log,
    rows_of_log,
)
from llm_ctr_pipeline.data.synthetic.generated_log import (
    SOURCE,
    GeneratedLog,
    first_rows,
    read_truth,
)
from llm_ctr_pipeline.data.synthetic.manifest import read_manifest

# Sees that a folder holds a raw log; raises a RawLogError where it holds something else.
RawSource = Callable[[AnyPath], object]


def leave_as_it_is(folder: AnyPath) -> None:
    """The source of a log of the folder's own."""


def recode(
    folder: AnyPath, dataset: Literal["x1", "x2"], checked: CheckedLog, recoding: Recoding
) -> None:
    """Write the log at hand in another encoding of Avazu, unless the folder already holds it.

    Of the generated log it holds all rows, split anew; of another log the training rows alone,
    since rows of its test split must not be trained on.
    """
    raw_log, connection = checked.raw_log, checked.rows.connection
    at_hand = parse_path(raw_log.folder)
    is_generated = raw_log.source == SOURCE
    used = SPLITS if is_generated else SPLITS[:1]
    recoded = f"re-encoded from {raw_log.log.dataset}'s training rows"
    made_from = RecodedRows(
        source=SOURCE if is_generated else recoded,
        splits={split: raw_log.splits[split].fingerprint for split in used},
    )
    begin = first_rows(at_hand) if is_generated else {"train": 0}
    # What is held out of train has positions in the training file.
    starts = {split: begin[split if split in raw_log.files else "train"] for split in used}
    provide_recoded_log(
        folder,
        connection,
        RecodedLog(dataset=dataset, settings=recoding, made_from=made_from),
        rows_of_log({split: checked.split(split).table for split in used}, starts),
        read_truth(connection, at_hand) if is_generated else None,
    )


def origin_of(folder: AnyPath) -> LogOrigin | None:
    """What the manifest of a log that was made here says; None for another folder."""
    generated = read_manifest(folder, GeneratedLog)
    if generated is not None:
        return LogOrigin(source=SOURCE, best_auc=generated.best_auc)
    recoded = read_manifest(folder, RecodedLog)
    if recoded is not None and recoded.log is not None:
        return LogOrigin(source=recoded.log.made_from.source, best_auc=recoded.best_auc)
    return None
