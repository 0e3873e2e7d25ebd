"""What preprocessing counted of the encoded splits.

Importable without Ibis, so that a model can be trained where only torch is.
"""

from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.frozen import Frozen


class SplitSummary(Frozen):
    """Counts of one encoded split.

    Attributes:
        rows: Its rows.
        clicks: Rows with label 1.
        click_rate: Share of them.
        unknown_share: Share of ids that are 0, out-of-vocabulary, over all fields.
        unknown_share_by_field: The same for each field.
        unseen_fields: The fields of which hardly a value is known, though train has ids for its
            own: they are told at the end of preprocessing.
        ids_fingerprint: 16 hexadecimal digits that say which label and ids stand in which row,
            whatever engine wrote them, in whatever order they lie.
        raw_fingerprint: That of the raw rows.
    """

    rows: int
    clicks: int
    click_rate: float
    unknown_share: float
    unknown_share_by_field: dict[str, float]
    unseen_fields: tuple[str, ...] = ()
    ids_fingerprint: str
    raw_fingerprint: str


class DatasetSummary(Frozen):
    """Counts of a log's encoded splits; written last, it vouches for all of them.

    Attributes:
        dataset: Short name of the log.
        log: What its raw files look like, and which fields are made of their columns.
        feature_map: That of the map the ids come from; `joint` for a joint one.
        fingerprint: That of the map.
        extends: Of a joint map, the fingerprint of the map that it extends.
        source: Where the log comes from.
        best_auc: The best AUC that a model can reach on each split, where it is known.
        splits: Counts by split.
        example: The first rows of the training file: by raw column a cell, the label's not.
    """

    dataset: str
    log: LogSchema
    feature_map: str
    fingerprint: str
    extends: str | None
    source: str
    best_auc: dict[str, float | None] | None
    splits: dict[str, SplitSummary]
    example: tuple[dict[str, str], ...]
