"""What a raw folder is to hold: a log of its own, or one that is made here."""

from dataclasses import dataclass
from typing import Protocol

from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.raw.manifest import LogOrigin
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog
from llm_ctr_pipeline.data.storage.store_path import Place, place_of
from llm_ctr_pipeline.data.synthetic import avazu_reencoding as recoded_log
from llm_ctr_pipeline.data.synthetic import generated_log
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import (
    Recoding,
    provide_recoded_log,
    rows_of_log,
)
from llm_ctr_pipeline.data.synthetic.generated_log import (
    SOURCE,
    GeneratedLogSettings,
    first_rows,
    provide_generated_log,
    read_truth,
)


class RawSource(Protocol):
    """What makes a raw log, or leaves it as it is."""

    def provide(self, folder: Place) -> None:
        """See that the folder holds the log.

        Raises:
            RawLogError: If it holds something else.
        """


@dataclass(frozen=True)
class GivenFolder:
    """A folder with a log of its own."""

    def provide(self, folder: Place) -> None:
        """Leave the folder as it is."""


@dataclass(frozen=True)
class GeneratedLog:
    """The generated log.

    Attributes:
        settings: All that it depends on.
    """

    settings: GeneratedLogSettings

    def provide(self, folder: Place) -> None:
        """See `RawSource.provide`."""
        provide_generated_log(folder, self.settings)


@dataclass(frozen=True)
class RecodedLog:
    """A log at hand in another encoding of Avazu.

    Of the generated log it holds all rows, split anew; of another log the training rows alone,
    since rows of its test split must not be trained on.

    Attributes:
        dataset: `x1` or `x2`.
        checked: The log at hand.
        recoding: How it is split.
    """

    dataset: str
    checked: CheckedLog
    recoding: Recoding

    def provide(self, folder: Place) -> None:
        """See `RawSource.provide`."""
        raw_log, connection = self.checked.raw_log, self.checked.rows.connection
        made_of = place_of(raw_log.folder)
        is_generated = raw_log.source == SOURCE
        used = SPLITS if is_generated else SPLITS[:1]
        begin = first_rows(made_of) if is_generated else {"train": 0}
        # What is held out of train has positions in the training file.
        starts = {split: begin[split if split in raw_log.files else "train"] for split in used}
        source = f"re-encoded from {raw_log.log.dataset}'s training rows"
        fingerprints = {split: raw_log.splits[split].fingerprint for split in used}
        provide_recoded_log(
            folder,
            connection,
            self.dataset,
            rows_of_log({split: self.checked.split(split).table for split in used}, starts),
            self.recoding,
            {"source": SOURCE if is_generated else source, "splits": fingerprints},
            read_truth(connection, made_of) if is_generated else None,
        )


def origin_of(folder: Place) -> LogOrigin | None:
    """What a log that was made here says of itself; None for another folder."""
    card = generated_log.read_card(folder)
    if card is not None:
        return LogOrigin(source=SOURCE, best_auc=card["best_auc"])
    card = recoded_log.read_card(folder)
    if card is not None:
        return LogOrigin(source=card["made_from"]["source"], best_auc=card["best_auc"])
    return None
