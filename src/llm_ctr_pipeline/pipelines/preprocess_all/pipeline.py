"""The preprocess_all pipeline: x4 as in preprocess, then x1 and x2 with ids behind x4's."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.preprocess.pipeline import (
    create_encode,
    create_fit,
    create_source,
)
from llm_ctr_pipeline.pipelines.preprocess_all.nodes import (
    join_vocabularies,
    make_joint_map,
    provide_recoded_logs,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that encodes x4, x1 and x2."""
    shared = {"params:preprocess"}
    # Encoding has a namespace of its own: nodes of one namespace must be neighbours, and the
    # joint vocabulary stands between.
    return (
        create_source()
        + create_fit()
        + create_encode()
        + _create_recoding()
        + Pipeline(create_fit(), namespace="x1", parameters=shared)
        + Pipeline(create_fit(), namespace="x2", parameters=shared)
        + _create_joint()
        + Pipeline(
            create_encode(),
            namespace="joint_x1",
            inputs={
                "raw_rows": "x1.raw_rows",
                "raw_log": "x1.raw_log",
                "vocabulary": "joint.vocabulary",
                "feature_map": "joint.feature_map",
            },
            outputs={
                "train_encoded": "x1.train_encoded",
                "valid_encoded": "x1.valid_encoded",
                "test_encoded": "x1.test_encoded",
                "summary": "x1.summary",
            },
            parameters={"params:log": "params:x1.log", "params:preprocess": "params:preprocess"},
        )
        + Pipeline(
            create_encode(),
            namespace="joint_x2",
            inputs={
                "raw_rows": "x2.raw_rows",
                "raw_log": "x2.raw_log",
                "vocabulary": "joint.vocabulary",
                "feature_map": "joint.feature_map",
            },
            outputs={
                "train_encoded": "x2.train_encoded",
                "valid_encoded": "x2.valid_encoded",
                "test_encoded": "x2.test_encoded",
                "summary": "x2.summary",
            },
            parameters={"params:log": "params:x2.log", "params:preprocess": "params:preprocess"},
        )
    )


def _create_recoding() -> Pipeline:
    return Pipeline(
        [
            Node(
                func=provide_recoded_logs,
                inputs=[
                    "raw_folder",
                    "raw_rows",
                    "raw_log",
                    "params:log",
                    "params:preprocess",
                    "recoded_log_folder",
                    "x1.raw_folder",
                    "x2.raw_folder",
                    "params:recoding",
                ],
                outputs=["x1.raw_source", "x2.raw_source"],
                name="provide_recoded_logs",
            ),
        ]
    )


def _create_joint() -> Pipeline:
    return Pipeline(
        [
            Node(
                func=join_vocabularies,
                inputs=[
                    "vocabulary",
                    "x1.vocabulary",
                    "x2.vocabulary",
                    "params:log",
                    "params:x1.log",
                    "params:x2.log",
                ],
                outputs="joint.vocabulary",
                name="join_vocabularies",
            ),
            Node(
                func=make_joint_map,
                inputs=["joint.vocabulary", "feature_map", "x1.feature_map", "x2.feature_map"],
                outputs="joint.feature_map",
                name="make_joint_map",
            ),
        ]
    )
