"""The evaluate pipeline: checkpoint and encoded rows → predictions → metrics and figures."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate.nodes import (
    draw_calibration,
    draw_roc,
    measure,
    predict,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that tests the checkpoint and the rows which parameters name."""
    return Pipeline(
        [
            Node(
                func=predict,
                inputs=[
                    "evaluated_model",
                    "evaluated_rows",
                    "evaluated_feature_map",
                    "params:llm",
                    "params:training",
                ],
                outputs="evaluated_predictions",
                name="predict",
            ),
            Node(
                func=measure,
                inputs=[
                    "evaluated_predictions",
                    "evaluated_model",
                    "evaluated_summary",
                    "params:evaluation",
                ],
                outputs=["evaluated_report", "evaluated_metrics"],
                name="measure",
            ),
            Node(
                func=draw_roc,
                inputs=["evaluated_predictions", "evaluated_report"],
                outputs="evaluated_roc",
                name="draw_roc",
            ),
            Node(
                func=draw_calibration,
                inputs=["evaluated_predictions", "evaluated_report"],
                outputs="evaluated_calibration",
                name="draw_calibration",
            ),
        ]
    )
