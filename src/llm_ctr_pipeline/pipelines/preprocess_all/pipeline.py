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
        + _create_joint_encode("x1")
        + _create_joint_encode("x2")
    )


def _create_joint_encode(dataset: str) -> Pipeline:
    own = ("raw_rows", "raw_log", "train_encoded", "valid_encoded", "test_encoded", "summary")
    names = {name: f"{dataset}.{name}" for name in own}
    return Pipeline(
        create_encode(),
        namespace=f"joint_{dataset}",
        inputs={
            **{name: names[name] for name in ("raw_rows", "raw_log")},
            "vocabulary": "joint.vocabulary",
            "feature_map": "joint.feature_map",
        },
        outputs={name: names[name] for name in own[2:]},
    )


def _create_recoding() -> Pipeline:
    return Pipeline(
        [
            Node(
                func=provide_recoded_logs,
                inputs=[
                    "raw_rows",
                    "raw_log",
                    "params:x1.raw",
                    "params:x2.raw",
                    "params:recoding",
                ],
                outputs=["x1.raw_folder", "x2.raw_folder"],
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
                    "raw_log",
                    "x1.raw_log",
                    "x2.raw_log",
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
