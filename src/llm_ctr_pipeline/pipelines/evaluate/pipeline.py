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
                    "evaluated_summary",
                    "params:evaluation",
                    "params:llm",
                    "params:training",
                ],
                outputs="evaluation_predictions",
                name="predict",
            ),
            Node(
                func=measure,
                inputs=[
                    "evaluation_predictions",
                    "evaluated_model",
                    "evaluated_summary",
                    "params:evaluation",
                ],
                outputs=["evaluation_report", "evaluation_metrics"],
                name="measure",
            ),
            Node(
                func=draw_roc,
                inputs=["evaluation_predictions", "evaluation_report"],
                outputs="evaluation_roc",
                name="draw_roc",
            ),
            Node(
                func=draw_calibration,
                inputs=["evaluation_predictions", "evaluation_report"],
                outputs="evaluation_calibration",
                name="draw_calibration",
            ),
        ]
    )


def create_test_pipeline() -> Pipeline:
    """Return the pipeline that tests the best checkpoint of a training path on the test split."""
    return Pipeline(
        create_pipeline(),
        inputs={
            "evaluated_model": "best_model",
            "evaluated_rows": "test_encoded@rows",
            "evaluated_summary": "summary",
        },
        outputs={
            "evaluation_predictions": "test_predictions",
            "evaluation_report": "evaluation_test",
            "evaluation_metrics": "metrics_test",
            "evaluation_roc": "roc_test",
            "evaluation_calibration": "calibration_test",
        },
    )
