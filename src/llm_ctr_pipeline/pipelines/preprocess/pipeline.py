"""The preprocess pipeline: raw log → checked rows → feature map → encoded."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.preprocess.nodes import (
    encode_splits,
    fit_vocabulary,
    make_feature_map,
    provide_generated_log,
    read_raw_log,
    summarise,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that encodes the log described by `params:log`."""
    return create_source() + create_fit() + create_encode()


def create_source() -> Pipeline:
    """Return what provides the raw log: written, where it is the generated one."""
    return Pipeline(
        [
            Node(
                func=provide_generated_log,
                inputs=["raw_folder", "generated_log_folder", "params:generated_log"],
                outputs="raw_source",
                name="provide_generated_log",
            ),
        ]
    )


def create_fit() -> Pipeline:
    """Return what leads from a raw log to its own vocabulary and feature map."""
    return Pipeline(
        [
            Node(
                func=read_raw_log,
                inputs=["raw_source", "raw_folder", "params:log", "params:preprocess"],
                outputs=["raw_rows", "raw_log"],
                name="read_raw_log",
            ),
            Node(
                func=fit_vocabulary,
                inputs=["raw_rows", "raw_log", "params:log", "params:preprocess"],
                outputs="vocabulary",
                name="fit_vocabulary",
            ),
            Node(
                func=make_feature_map,
                inputs=["vocabulary", "raw_log", "params:log", "params:preprocess"],
                outputs="feature_map",
                name="make_feature_map",
            ),
        ]
    )


def create_encode() -> Pipeline:
    """Return what leads from raw rows and a vocabulary to encoded splits."""
    return Pipeline(
        [
            Node(
                func=encode_splits,
                inputs=[
                    "raw_rows",
                    "raw_log",
                    "vocabulary",
                    "params:log",
                    "params:preprocess",
                ],
                outputs=["train_encoded@table", "valid_encoded@table", "test_encoded@table"],
                name="encode_splits",
            ),
            Node(
                func=summarise,
                inputs=[
                    "raw_log",
                    "feature_map",
                    "params:log",
                    "train_encoded@table",
                    "valid_encoded@table",
                    "test_encoded@table",
                ],
                outputs="summary",
                name="summarise",
            ),
        ]
    )
