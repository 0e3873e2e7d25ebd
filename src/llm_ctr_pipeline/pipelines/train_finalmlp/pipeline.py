"""The train_finalmlp pipeline: train FinalMLP, then test its best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_baseline
from llm_ctr_pipeline.pipelines.train.pipeline import BASELINE, ENCODED_LOG, create_path_pipeline


def create_pipeline() -> Pipeline:
    """Return FinalMLP's training and the test of its best checkpoint."""
    training = Node(
        train_baseline, BASELINE, ["best_model", "training_results"], name="train_finalmlp"
    )
    return create_path_pipeline("finalmlp", training, ENCODED_LOG)
