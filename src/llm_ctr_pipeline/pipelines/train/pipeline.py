"""The train pipeline: train end to end, then test the best checkpoint."""

from collections.abc import Set

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate import create_test_pipeline
from llm_ctr_pipeline.pipelines.train.nodes import train_single_phase
from llm_ctr_pipeline.reporting.learning_curve import learning_curve_figure

# What training on the log alone reads of other pipelines.
ENCODED_LOG = [
    *("train_encoded", "valid_encoded"),
    *("vocabulary", "feature_map", "raw_log", "summary"),
]
# What every training is told.
SETTINGS = ["state_folder", "params:stages", "params:training", "params:model"]
# What training end to end is told besides.
OF_SINGLE_PHASE = ["params:llm", "params:terms", "params:evaluation"]
# What a baseline's training reads and is told.
BASELINE = [*ENCODED_LOG, *SETTINGS, "params:network", "params:evaluation"]


def create_pipeline() -> Pipeline:
    """Return the main job: single-phase training and the test of its best checkpoint."""
    training = Node(
        train_single_phase,
        [*ENCODED_LOG, *SETTINGS, *OF_SINGLE_PHASE],
        ["best_model", "training_results"],
        name="train_single_phase",
    )
    return create_path_pipeline("single_phase", training, ENCODED_LOG)


def create_path_pipeline(
    path: str, training: Node, inputs: list[str], parameters: Set[str] = frozenset()
) -> Pipeline:
    """Return a path's training, its learning curve and the test of its best checkpoint.

    Args:
        path: The path's name; what it makes, its stages and its states carry it.
        training: Trains; gives `best_model` and `training_results`, and may give more.
        inputs: What it reads of other pipelines.
        parameters: Groups of other paths that it is told.
    """
    learning_curve = Node(
        learning_curve_figure, "training_results", "learning_curve", name="draw_learning_curve"
    )
    return Pipeline(
        [training, learning_curve, create_test_pipeline()],
        namespace=path,
        inputs={*inputs, "test_encoded", "summary", "run_facts"},
        parameters={"params:model", "params:llm", "params:training", *parameters},
    )
