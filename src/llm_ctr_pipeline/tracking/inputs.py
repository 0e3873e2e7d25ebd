"""Which rows a run trained or was tested on, as MLflow's datasets."""

import json
from collections.abc import Iterable

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary

SHOWN_DIGEST = 12  # characters: MLflow takes 36, and shows them all


def inputs_of(summary: DatasetSummary, splits: Iterable[str]) -> list[DatasetInput]:
    """Describe splits of a log, each with the digest of its raw rows and in its own context."""
    inputs = []
    for split in splits:
        counted = summary.splits[split]
        dataset = Dataset(
            name=summary.dataset,
            digest=digest_of(counted.raw_fingerprint),
            source_type="log",
            source=json.dumps({"log": summary.source, "split": split}),
            profile=json.dumps({"num_rows": counted.rows, "clicks": counted.clicks}),
        )
        inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, split)]))
    return inputs


def digest_of(fingerprint: str) -> str:
    """A split's fingerprint, as much of it as tells splits apart."""
    return fingerprint[:SHOWN_DIGEST]
