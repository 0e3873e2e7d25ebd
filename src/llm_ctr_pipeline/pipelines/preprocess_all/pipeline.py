"""The preprocess_all pipeline: x4 as in preprocess, then x1 and x2 with ids behind x4's."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines import preprocess
from llm_ctr_pipeline.pipelines.preprocess.pipeline import ENCODED, create_encode, create_fit
from llm_ctr_pipeline.pipelines.preprocess_all.nodes import (
    join_vocabularies,
    make_joint_map,
    provide_recoded_logs,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that encodes x4, x1 and x2."""
    vocabularies = ["vocabulary", "x1.vocabulary", "x2.vocabulary"]
    raw_logs = ["raw_log", "x1.raw_log", "x2.raw_log"]
    feature_maps = ["feature_map", "x1.feature_map", "x2.feature_map"]
    return Pipeline(
        [
            preprocess.create_pipeline(),
            Node(
                provide_recoded_logs,
                ["raw_rows", "raw_log", "params:x1.raw", "params:x2.raw", "params:recoding"],
                ["x1.raw_folder", "x2.raw_folder"],
                name="provide_recoded_logs",
            ),
            Pipeline(create_fit(), namespace="x1", parameters={"params:preprocess"}),
            Pipeline(create_fit(), namespace="x2", parameters={"params:preprocess"}),
            Node(
                join_vocabularies,
                [*vocabularies, *raw_logs],
                "joint.vocabulary",
                name="join_vocabularies",
            ),
            Node(
                make_joint_map,
                ["joint.vocabulary", *feature_maps],
                "joint.feature_map",
                name="make_joint_map",
            ),
            _create_joint_encode("x1"),
            _create_joint_encode("x2"),
        ]
    )


def _create_joint_encode(dataset: str) -> Pipeline:
    read, written = ("raw_rows", "raw_log"), (*ENCODED, "summary")
    return Pipeline(
        create_encode(),
        # One of its own: nodes of a namespace must be neighbours, and the joint vocabulary stands
        # between these and those that fit.
        namespace=f"joint_{dataset}",
        inputs={
            **{name: f"{dataset}.{name}" for name in read},
            "vocabulary": "joint.vocabulary",
            "feature_map": "joint.feature_map",
        },
        outputs={name: f"{dataset}.{name}" for name in written},
    )
