"""The train_logistic_regression pipeline: train it, then test its best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_baseline
from llm_ctr_pipeline.pipelines.train.pipeline import BASELINE, ENCODED_LOG, create_path_pipeline


def create_pipeline() -> Pipeline:
    """Return logistic regression's training and the test of its best checkpoint."""
    training = Node(
        train_baseline,
        BASELINE,
        ["best_model", "training_results"],
        name="train_logistic_regression",
    )
    return create_path_pipeline("logistic_regression", training, ENCODED_LOG)
