"""The train_deepfm pipeline: train the baseline, then test its best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate import create_test_pipeline
from llm_ctr_pipeline.pipelines.train.nodes import draw_learning_curve
from llm_ctr_pipeline.pipelines.train_deepfm.nodes import train_deepfm


def create_pipeline() -> Pipeline:
    """Return the baseline's training and the test of its best checkpoint."""
    training = Pipeline(
        [
            Node(
                func=train_deepfm,
                inputs=[
                    "train_encoded@rows",
                    "valid_encoded@rows",
                    "vocabulary",
                    "feature_map",
                    "raw_log",
                    "summary",
                    "state_folder",
                    "params:stages",
                    "params:model",
                    "params:network",
                    "params:training",
                ],
                outputs=["best_model", "training_results"],
                name="train_deepfm",
            ),
            Node(
                func=draw_learning_curve,
                inputs="training_results",
                outputs="learning_curve",
                name="draw_learning_curve",
            ),
        ]
    )
    return Pipeline(
        training + create_test_pipeline(),
        namespace="deepfm",
        inputs={
            "train_encoded",
            "valid_encoded",
            "test_encoded",
            "vocabulary",
            "feature_map",
            "raw_log",
            "summary",
        },
        parameters={"params:model", "params:llm", "params:training"},
    )
