"""What is known of a raw log: the files its rows were read from, and what the check found.

Importable without Ibis, so that a model can be trained where only torch is.
"""

from pydantic import field_validator

from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.frozen import Frozen

MANIFEST = "manifest.json"

# The AUC of the true click probabilities by split, where they are known; None for one class alone.
BestAuc = dict[str, float | None]
# What rows are sorted by before a file is cut.
Key = tuple[int | str, ...]


class LogOrigin(Frozen):
    """Where a raw log comes from.

    Attributes:
        source: "generated log", "re-encoded from …", or the name of the raw folder.
        best_auc: The best AUC that a model can reach on each split, where it is known.
    """

    source: str
    best_auc: BestAuc | None = None


class ReadFile(Frozen):
    """A raw file as it was read.

    Attributes:
        file: Its name, without its folder.
        size: Bytes.
        changed_ns: Time of the last change in nanoseconds.
        fingerprint: SHA-256 of its bytes, in hexadecimal; empty where it was not read yet.
        rows: SHA-256 of its rows in Parquet, file after file; empty where they are not written yet.
    """

    file: str
    size: int
    changed_ns: int
    fingerprint: str = ""
    rows: str = ""


class RawManifest(LogOrigin):
    """What a log's rows in Parquet were read from; lies among them.

    Attributes:
        log: The log's description.
        folder: Path or address of the raw files.
        files: The raw file of each split that has one, by the split's name.
    """

    log: LogSchema
    folder: str
    files: dict[str, ReadFile]

    def is_of(self, found: "RawManifest") -> bool:
        """Whether the same files would be read in the same way, as far as can be told cheaply."""
        unread = {
            split: file.model_copy(update={"fingerprint": "", "rows": ""})
            for split, file in self.files.items()
        }
        return self.log == found.log and unread == found.files


class SplitCounts(Frozen):
    """What the check found of one raw file, or of the split that is part of one.

    Attributes:
        file: Name of the file, without its folder.
        rows: Data rows.
        clicks: Rows with label 1.
        fingerprint: SHA-256 of the file's bytes, in hexadecimal; of a part of a file, of that and
            what says which part.
    """

    file: str
    rows: int
    clicks: int
    fingerprint: str


class Cuts(Frozen):
    """Where the training file is cut into train and what is held out.

    Attributes:
        parts: The splits made of it, in the order of their rows' keys.
        last_keys: For each group of rows (a class, or all), the key of the last row of each part
            but the last.
    """

    parts: tuple[str, ...]
    last_keys: dict[str, tuple[Key, ...]]

    @field_validator("last_keys")
    @classmethod
    def _sorted(cls, last_keys: dict[str, tuple[Key, ...]]) -> dict[str, tuple[Key, ...]]:
        # Written alike in whatever order an engine returned the groups.
        return dict(sorted(last_keys.items()))


class RawLog(RawManifest):
    """A raw log whose rows were read and checked.

    Attributes:
        splits: What the check found, by split.
        cuts: Where the training file is cut; None where every split has a file of its own.
        every_nth_row: Of how many rows of a file the first was kept.
    """

    splits: dict[str, SplitCounts]
    cuts: Cuts | None
    every_nth_row: int
