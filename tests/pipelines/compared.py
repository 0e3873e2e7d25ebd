"""Results of models as their training runs leave them, to be compared."""

from pathlib import Path

import pandas as pd

from llm_ctr_pipeline.data.storage.record_text import to_text
from llm_ctr_pipeline.reporting.results import ScoredModel

NAMES = ("x4_test_predictions.parquet", "evaluation_x4_test.json", "training_results.json")
DEFAULTS = {
    **{"paths": "all", "runs": "", "baseline": "deepfm", "dataset": "x4", "split": "test"},
    "seeds": 1,
}


def write(model: ScoredModel, outputs: Path, reports: Path) -> list[Path]:
    """Write a model's results as its training run leaves them."""
    outputs.mkdir(parents=True, exist_ok=True)
    reports.mkdir(parents=True, exist_ok=True)
    predictions, evaluation, training = outputs / NAMES[0], reports / NAMES[1], reports / NAMES[2]
    columns = {"label": model.labels_N, "probability": model.probabilities_N}
    pd.DataFrame(columns).to_parquet(predictions, index=False)
    evaluation.write_text(to_text(model.report.evaluation))
    training.write_text(to_text(model.report.training))
    return [predictions, evaluation, training]
