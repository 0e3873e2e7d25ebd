"""The train_deepfm pipeline: train the baseline, then test its best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.path_pipeline import ENCODED_LOG, create_path_pipeline
from llm_ctr_pipeline.pipelines.train_deepfm.nodes import train_deepfm


def create_pipeline() -> Pipeline:
    """Return the baseline's training and the test of its best checkpoint."""
    training = Node(
        func=train_deepfm,
        inputs=[
            *ENCODED_LOG,
            "state_folder",
            "params:stages",
            "params:model",
            "params:network",
            "params:training",
        ],
        outputs=["best_model", "training_results"],
        name="train_deepfm",
    )
    return create_path_pipeline("deepfm", training)
