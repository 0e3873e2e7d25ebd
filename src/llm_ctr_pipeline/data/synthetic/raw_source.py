"""What a raw folder is to hold: a log of its own, or one that is made here."""

from dataclasses import dataclass
from typing import Literal, Protocol

from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.raw.manifest import LogOrigin
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog
from llm_ctr_pipeline.data.storage.store_path import Place, place_of
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
    GeneratedLogSettings,
    first_rows,
    provide_generated_log,
    read_truth,
)
from llm_ctr_pipeline.data.synthetic.manifest import read_manifest


class RawSource(Protocol):
    """What makes a raw log, or leaves it as it is."""

    def provide(self, folder: Place) -> None:
        """See that the folder holds the log.

        Raises:
            RawLogError: If it holds something else.
        """


class GivenLog:
    """A log of the folder's own."""

    def provide(self, folder: Place) -> None:
        """Leave the folder as it is."""


@dataclass(frozen=True)
class LogToGenerate:
    """The generated log.

    Attributes:
        settings: All that it depends on.
    """

    settings: GeneratedLogSettings

    def provide(self, folder: Place) -> None:
        """See `RawSource.provide`."""
        provide_generated_log(folder, self.settings)


@dataclass(frozen=True)
class LogToRecode:
    """The log at hand in another encoding of Avazu.

    Of the generated log it holds all rows, split anew; of another log the training rows alone,
    since rows of its test split must not be trained on.

    Attributes:
        dataset: The encoding.
        checked: The log at hand.
        recoding: How it is split.
    """

    dataset: Literal["x1", "x2"]
    checked: CheckedLog
    recoding: Recoding

    def provide(self, folder: Place) -> None:
        """See `RawSource.provide`."""
        raw_log, connection = self.checked.raw_log, self.checked.rows.connection
        at_hand = place_of(raw_log.folder)
        is_generated = raw_log.source == SOURCE
        used = SPLITS if is_generated else SPLITS[:1]
        source = (
            SOURCE if is_generated else f"re-encoded from {raw_log.log.dataset}'s training rows"
        )
        begin = first_rows(at_hand) if is_generated else {"train": 0}
        # What is held out of train has positions in the training file.
        starts = {split: begin[split if split in raw_log.files else "train"] for split in used}
        fingerprints = {split: raw_log.splits[split].fingerprint for split in used}
        provide_recoded_log(
            folder,
            connection,
            RecodedLog(
                dataset=self.dataset,
                settings=self.recoding,
                made_from=RecodedRows(source=source, splits=fingerprints),
            ),
            rows_of_log({split: self.checked.split(split).table for split in used}, starts),
            read_truth(connection, at_hand) if is_generated else None,
        )


def origin_of(folder: Place) -> LogOrigin | None:
    """What the manifest of a log that was made here says; None for another folder."""
    generated = read_manifest(folder, GeneratedLog)
    if generated is not None:
        return LogOrigin(source=SOURCE, best_auc=generated.best_auc)
    recoded = read_manifest(folder, RecodedLog)
    if recoded is not None and recoded.log is not None:
        return LogOrigin(source=recoded.log.made_from.source, best_auc=recoded.best_auc)
    return None
