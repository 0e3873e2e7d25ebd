"""The train_deepfm pipeline: train the baseline, then test its best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_deepfm
from llm_ctr_pipeline.pipelines.train.pipeline import ENCODED_LOG, SETTINGS, create_path_pipeline


def create_pipeline() -> Pipeline:
    """Return the baseline's training and the test of its best checkpoint."""
    training = Node(
        train_deepfm,
        [*ENCODED_LOG, *SETTINGS, "params:network"],
        ["best_model", "training_results"],
        name="train_deepfm",
    )
    return create_path_pipeline("deepfm", training, ENCODED_LOG)
