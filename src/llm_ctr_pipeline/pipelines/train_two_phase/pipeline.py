"""The train_two_phase pipeline: phase 1 on x1 and x2, phase 2 on the log, then the test."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate import create_test_pipeline
from llm_ctr_pipeline.pipelines.train.nodes import draw_learning_curve
from llm_ctr_pipeline.pipelines.train_two_phase.nodes import train_two_phase

INPUTS = {
    "deepfm.best_model",
    "x1.train_encoded",
    "x1.valid_encoded",
    "x1.summary",
    "x2.train_encoded",
    "x2.valid_encoded",
    "x2.summary",
    "train_encoded",
    "valid_encoded",
    "test_encoded",
    "summary",
    "joint.vocabulary",
    "joint.feature_map",
}
PARAMETERS = {"params:model", "params:llm", "params:training"}


def create_pipeline() -> Pipeline:
    """Return the path whose encoder stays as the baseline left it."""
    return Pipeline(
        create_two_phases(), namespace="two_phase", inputs=INPUTS, parameters=PARAMETERS
    )


def create_two_phases() -> Pipeline:
    """Return training in stages on three datasets, and the test, without a namespace."""
    training = Pipeline(
        [
            Node(
                func=train_two_phase,
                inputs=[
                    "deepfm.best_model",
                    "x1.train_encoded@rows",
                    "x1.valid_encoded@rows",
                    "x1.summary",
                    "x2.train_encoded@rows",
                    "x2.valid_encoded@rows",
                    "x2.summary",
                    "train_encoded@rows",
                    "valid_encoded@rows",
                    "summary",
                    "joint.vocabulary",
                    "joint.feature_map",
                    "state_folder",
                    "params:evaluation",
                    "params:stages",
                    "params:model",
                    "params:llm",
                    "params:training",
                ],
                outputs=["phase_1_model", "best_model", "training_results"],
                name="train_two_phase",
            ),
            Node(
                func=draw_learning_curve,
                inputs="training_results",
                outputs="learning_curve",
                name="draw_learning_curve",
            ),
        ]
    )
    return training + create_test_pipeline()
