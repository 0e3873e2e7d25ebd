"""The train pipeline: train end to end, then test the best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.nodes import train_single_phase
from llm_ctr_pipeline.pipelines.train.path_pipeline import ENCODED_LOG, create_path_pipeline


def create_pipeline() -> Pipeline:
    """Return the main job: single-phase training and the test of its best checkpoint."""
    training = Node(
        func=train_single_phase,
        inputs=[
            *ENCODED_LOG,
            "state_folder",
            "params:stages",
            "params:model",
            "params:llm",
            "params:training",
        ],
        outputs=["best_model", "training_results"],
        name="train_single_phase",
    )
    return create_path_pipeline("single_phase", training)
