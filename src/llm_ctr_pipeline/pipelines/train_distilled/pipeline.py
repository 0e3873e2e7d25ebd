"""The train_distilled pipeline: train DeepFM on a teacher's log-odds too, then test it."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_distilled
from llm_ctr_pipeline.pipelines.train.pipeline import ENCODED_LOG, SETTINGS, create_path_pipeline

NETWORK = "params:deepfm.network"


def create_pipeline() -> Pipeline:
    """Return the training of a DeepFM that has a teacher, and the test of its best checkpoint."""
    training = Node(
        train_distilled,
        [
            *("teacher_model", "params:teacher", "params:llm"),
            *(*ENCODED_LOG, *SETTINGS, NETWORK, "params:evaluation"),
        ],
        ["best_model", "training_results"],
        name="train_distilled",
    )
    return create_path_pipeline("distilled", training, ENCODED_LOG, {NETWORK})
