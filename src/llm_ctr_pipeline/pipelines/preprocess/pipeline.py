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
                inputs=["x4_raw_folder", "generated_log_folder", "params:generated_log"],
                outputs="x4_raw_source",
                name="provide_generated_log",
            ),
            Node(
                func=check_raw_log,
                inputs=["x4_raw_source", "x4_train_raw", "x4_valid_raw", "x4_test_raw"],
                outputs="x4_raw_log",
                name="check_raw_log",
            ),
            Node(
                func=normalise_split,
                inputs=["x4_train_raw", "x4_raw_log"],
                outputs="x4_train_normalised",
                name="normalise_train",
            ),
            Node(
                func=normalise_split,
                inputs=["x4_valid_raw", "x4_raw_log"],
                outputs="x4_valid_normalised",
                name="normalise_valid",
            ),
            Node(
                func=normalise_split,
                inputs=["x4_test_raw", "x4_raw_log"],
                outputs="x4_test_normalised",
                name="normalise_test",
            ),
            Node(
                func=fit_vocabulary,
                inputs=["x4_train_normalised", "params:preprocess"],
                outputs="x4_vocabulary",
                name="fit_vocabulary",
            ),
            Node(
                func=make_feature_map,
                inputs=["x4_vocabulary", "x4_raw_log", "params:preprocess"],
                outputs="x4_feature_map",
                name="make_feature_map",
            ),
            Node(
                func=encode_split,
                inputs=["x4_train_normalised", "x4_vocabulary", "x4_feature_map"],
                outputs="x4_train_encoded",
                name="encode_train",
            ),
            Node(
                func=encode_split,
                inputs=["x4_valid_normalised", "x4_vocabulary", "x4_feature_map"],
                outputs="x4_valid_encoded",
                name="encode_valid",
            ),
            Node(
                func=encode_split,
                inputs=["x4_test_normalised", "x4_vocabulary", "x4_feature_map"],
                outputs="x4_test_encoded",
                name="encode_test",
            ),
            Node(
                func=summarise,
                inputs=[
                    "x4_raw_log",
                    "x4_feature_map",
                    "x4_train_encoded",
                    "x4_valid_encoded",
                    "x4_test_encoded",
                ],
                outputs="x4_summary",
                name="summarise",
            ),
        ]
    )
