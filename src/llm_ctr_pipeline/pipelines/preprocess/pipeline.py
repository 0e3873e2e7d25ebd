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

ENCODED = ["train_encoded", "valid_encoded", "test_encoded"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that encodes the log described by `params:log`."""
    source = Node(
        provide_raw_log,
        ["params:raw", "params:generated_log"],
        "raw_folder",
        name="provide_raw_log",
    )
    return Pipeline([source, create_fit(), create_encode()])


def create_fit() -> Pipeline:
    """Return what leads from a raw log to its own vocabulary and feature map."""
    checked = ["raw_log", "params:preprocess"]
    return Pipeline(
        [
            Node(
                read_raw_log,
                ["raw_folder", "params:log", "params:raw"],
                "raw_rows",
                name="read_raw_log",
            ),
            Node(check_raw_log, ["raw_rows", "params:preprocess"], "raw_log", name="check_raw_log"),
            Node(fit_vocabulary, ["raw_rows", *checked], "vocabulary", name="fit_vocabulary"),
            Node(
                make_feature_map, ["vocabulary", *checked], "feature_map", name="make_feature_map"
            ),
        ]
    )


def create_encode() -> Pipeline:
    """Return what leads from raw rows and a vocabulary to encoded splits."""
    return Pipeline(
        [
            Node(
                encode_splits,
                ["raw_rows", "raw_log", "vocabulary"],
                ENCODED,
                name="encode_splits",
            ),
            Node(
                summarise,
                ["raw_rows", "raw_log", "vocabulary", "feature_map", *ENCODED],
                "summary",
                name="summarise",
            ),
        ]
    )
