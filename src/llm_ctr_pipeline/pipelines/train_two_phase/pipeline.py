"""The train_two_phase pipeline: phase 1 on x1 and x2, phase 2 on the log, then the test."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_two_phase
from llm_ctr_pipeline.pipelines.train.pipeline import SETTINGS, create_path_pipeline

BASELINE_AND_ENCODED_LOGS = [
    "deepfm.best_model",
    *("x1.train_encoded", "x1.valid_encoded", "x1.summary"),
    *("x2.train_encoded", "x2.valid_encoded", "x2.summary"),
    *("train_encoded", "valid_encoded", "summary"),
    *("joint.vocabulary", "joint.feature_map"),
]


def create_pipeline(path: str = "two_phase") -> Pipeline:
    """Return a path that trains in stages on three datasets, and its test."""
    training = Node(
        train_two_phase,
        [*BASELINE_AND_ENCODED_LOGS, *SETTINGS, "params:llm", "params:evaluation"],
        ["phase_1_model", "best_model", "training_results"],
        name="train_two_phase",
    )
    return create_path_pipeline(path, training, BASELINE_AND_ENCODED_LOGS)
