"""The preprocess pipeline: raw log → checked rows → feature map → encoded."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.preprocess.nodes import (
    check_raw_log,
    encode_splits,
    fit_vocabulary,
    make_feature_map,
    provide_raw_log,
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
                func=provide_raw_log,
                inputs=["params:raw", "params:generated_log"],
                outputs="raw_folder",
                name="provide_raw_log",
            ),
        ]
    )


def create_fit() -> Pipeline:
    """Return what leads from a raw log to its own vocabulary and feature map."""
    return Pipeline(
        [
            Node(
                func=read_raw_log,
                inputs=["raw_folder", "params:log", "params:raw"],
                outputs="raw_rows",
                name="read_raw_log",
            ),
            Node(
                func=check_raw_log,
                inputs=["raw_rows", "params:preprocess"],
                outputs="raw_log",
                name="check_raw_log",
            ),
            Node(
                func=fit_vocabulary,
                inputs=["raw_rows", "raw_log", "params:preprocess"],
                outputs="vocabulary",
                name="fit_vocabulary",
            ),
            Node(
                func=make_feature_map,
                inputs=["vocabulary", "raw_log", "params:preprocess"],
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
                inputs=["raw_rows", "raw_log", "vocabulary"],
                outputs=["train_encoded@table", "valid_encoded@table", "test_encoded@table"],
                name="encode_splits",
            ),
            Node(
                func=summarise,
                inputs=[
                    "raw_log",
                    "feature_map",
                    "train_encoded@table",
                    "valid_encoded@table",
                    "test_encoded@table",
                ],
                outputs="summary",
                name="summarise",
            ),
        ]
    )
