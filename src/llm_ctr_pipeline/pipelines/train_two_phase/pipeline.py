"""The train_two_phase pipeline: phase 1 on x1 and x2, phase 2 on the log, then the test."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.train.path_pipeline import create_path_pipeline
from llm_ctr_pipeline.pipelines.train_two_phase.nodes import train_two_phase

INPUTS = (
    "deepfm.best_model",
    "x1.train_encoded",
    "x1.valid_encoded",
    "x1.summary",
    "x2.train_encoded",
    "x2.valid_encoded",
    "x2.summary",
    "joint.vocabulary",
    "joint.feature_map",
)


def create_pipeline() -> Pipeline:
    """Return the path whose encoder stays as the baseline left it."""
    return create_two_phases("two_phase")


def create_two_phases(path: str) -> Pipeline:
    """Return a path that trains in stages on three datasets, and its test."""
    training = Node(
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
    )
    return create_path_pipeline(path, training, INPUTS)
