"""What the pipelines of all training paths share: all but the node that trains."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate import create_test_pipeline
from llm_ctr_pipeline.pipelines.train.nodes import draw_learning_curve

# What a training on the log alone is given, in the order of its node's first arguments.
ENCODED_LOG = [
    "train_encoded@rows",
    "valid_encoded@rows",
    "vocabulary",
    "feature_map",
    "raw_log",
    "summary",
]


def create_path_pipeline(
    path: str, training: Node, inputs: tuple[str, ...] = ("vocabulary", "feature_map", "raw_log")
) -> Pipeline:
    """Return a path's training, its learning curve and the test of its best checkpoint.

    Args:
        path: The path's name; what it makes, its stages and its states carry it.
        training: Trains; gives `best_model` and `training_results`, and may give more.
        inputs: What it reads of other pipelines beside the log's encoded splits.
    """
    learning_curve = Node(
        func=draw_learning_curve,
        inputs="training_results",
        outputs="learning_curve",
        name="draw_learning_curve",
    )
    return Pipeline(
        Pipeline([training, learning_curve]) + create_test_pipeline(),
        namespace=path,
        inputs={"train_encoded", "valid_encoded", "test_encoded", "summary", *inputs},
        parameters={"params:model", "params:llm", "params:training"},
    )
