"""The preprocess pipeline: raw log → checked → normalised → feature map → encoded."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.preprocess.nodes import (
    check_raw_log,
    encode_split,
    fit_vocabulary,
    make_feature_map,
    normalise_split,
    provide_generated_log,
    summarise,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that encodes the x4 log."""
    return Pipeline(
        [
            Node(
                func=provide_generated_log,
                inputs=["raw_folder", "generated_log_folder", "params:generated_log"],
                outputs="raw_source",
                name="provide_generated_log",
            ),
            Node(
                func=check_raw_log,
                inputs=["raw_source", "train_raw", "valid_raw", "test_raw"],
                outputs="raw_log",
                name="check_raw_log",
            ),
            Node(
                func=normalise_split,
                inputs=["train_raw", "raw_log"],
                outputs="train_normalised",
                name="normalise_train",
            ),
            Node(
                func=normalise_split,
                inputs=["valid_raw", "raw_log"],
                outputs="valid_normalised",
                name="normalise_valid",
            ),
            Node(
                func=normalise_split,
                inputs=["test_raw", "raw_log"],
                outputs="test_normalised",
                name="normalise_test",
            ),
            Node(
                func=fit_vocabulary,
                inputs=["train_normalised", "params:preprocess"],
                outputs="vocabulary",
                name="fit_vocabulary",
            ),
            Node(
                func=make_feature_map,
                inputs=["vocabulary", "raw_log", "params:preprocess"],
                outputs="feature_map",
                name="make_feature_map",
            ),
            Node(
                func=encode_split,
                inputs=["train_normalised", "vocabulary", "feature_map"],
                outputs="train_encoded",
                name="encode_train",
            ),
            Node(
                func=encode_split,
                inputs=["valid_normalised", "vocabulary", "feature_map"],
                outputs="valid_encoded",
                name="encode_valid",
            ),
            Node(
                func=encode_split,
                inputs=["test_normalised", "vocabulary", "feature_map"],
                outputs="test_encoded",
                name="encode_test",
            ),
            Node(
                func=summarise,
                inputs=[
                    "raw_log",
                    "feature_map",
                    "train_encoded",
                    "valid_encoded",
                    "test_encoded",
                ],
                outputs="summary",
                name="summarise",
            ),
        ]
    )
