"""The train_hybrid pipeline: as train, with terms beside the language model."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_single_phase
from llm_ctr_pipeline.pipelines.train.pipeline import (
    ENCODED_LOG,
    OF_SINGLE_PHASE,
    SETTINGS,
    create_path_pipeline,
)


def create_pipeline() -> Pipeline:
    """Return the hybrid's training, end to end, and the test of its best checkpoint."""
    training = Node(
        train_single_phase,
        [*ENCODED_LOG, *SETTINGS, *OF_SINGLE_PHASE],
        ["best_model", "training_results"],
        name="train_hybrid",
    )
    return create_path_pipeline("hybrid", training, ENCODED_LOG)
