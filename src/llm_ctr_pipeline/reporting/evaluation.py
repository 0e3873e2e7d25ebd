"""The report of a test: which checkpoint was tested on which rows, and what came out."""

import datetime

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.classification import ClassificationMetrics
from llm_ctr_pipeline.training.history import Provenance

CHANCE_AUC = 0.5


class _Test(Frozen):
    path: str
    model: str
    dataset: str
    split: str
    loss: float


class Evaluation(ClassificationMetrics, _Test):
    """A test's report: `evaluation_DATASET_SPLIT.json`.

    Attributes:
        path: The training path.
        model: Its checkpoint's name.
        dataset: The dataset of the rows.
        split: Their split.
        loss: Cross-entropy over the two answers, which is the log loss of the click probability.
        best_possible_auc: The best AUC that any model can reach; None for a log that was not
            generated.
        share_of_best: The share of the way from AUC 0.5 to there; None likewise.
        group_by: The field whose values the rows are grouped by for gAUC; None for no gAUC.
        gauc: Mean AUC of these groups, weighted by their rows, over groups of both classes without
            the unknown values; None as well where there is no such group.
        gauc_rows: Rows of these groups; None without `group_by`.
        source: Where the rows come from.
        data_fingerprint: The raw split's.
        feature_map_fingerprint: The checkpoint's feature map's.
        checkpoint: SHA-256 of the checkpoint's `model.safetensors`.
        predictions: SHA-256 of the predictions that the metrics are of.
        trained: What trained the checkpoint.
        timestamp: When it was tested, ISO 8601 with a time zone.
        serving_precision: What the language model was in, where the model was tested as it is
            served; None as trained.
    """

    best_possible_auc: float | None
    share_of_best: float | None
    group_by: str | None
    gauc: float | None
    gauc_rows: int | None
    source: str
    data_fingerprint: str
    feature_map_fingerprint: str
    checkpoint: str
    predictions: str
    trained: Provenance
    timestamp: str
    serving_precision: str | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Its numbers with a fraction, by their names below the split's; no loss twice."""
        numbers = {key: value for key, value in self if isinstance(value, float) and key != "loss"}
        return {f"{self.split}/{key}": value for key, value in numbers.items()}

    @property
    def name(self) -> str:
        """What was tested: the path, with the precision where it was tested as served."""
        return "/".join(part for part in (self.path, self.serving_precision) if part)

    @property
    def title(self) -> str:
        """What was tested on what."""
        return f"{self.name} on {self.dataset} {self.split}"


def share_of_best(auc: float, best_possible: float | None) -> float | None:
    """Say how much of the way from a coin's AUC to the best possible one a model has gone."""
    if best_possible is None:
        return None
    return (auc - CHANCE_AUC) / (best_possible - CHANCE_AUC)


def now() -> str:
    """The time in UTC to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
