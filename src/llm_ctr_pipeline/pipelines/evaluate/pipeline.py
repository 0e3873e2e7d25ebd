"""The evaluate pipeline: checkpoint and encoded rows → predictions → metrics and figures."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate.nodes import measure, predict
from llm_ctr_pipeline.reporting.calibration_figures import calibration_figure
from llm_ctr_pipeline.reporting.roc_figures import roc_figure


def create_pipeline() -> Pipeline:
    """Return the pipeline that tests the checkpoint and the rows which parameters name."""
    tested = ["evaluated_summary", "params:evaluation"]
    reported = ["evaluation_predictions", "evaluation_report"]
    return Pipeline(
        [
            Node(
                predict,
                ["evaluated_model", "evaluated_rows", *tested, "params:llm", "params:training"],
                "evaluation_predictions",
                name="predict",
            ),
            Node(
                measure,
                ["evaluation_predictions", "evaluated_model", *tested],
                ["evaluation_report", "evaluation_metrics"],
                name="measure",
            ),
            Node(roc_figure, reported, "evaluation_roc", name="draw_roc"),
            Node(calibration_figure, reported, "evaluation_calibration", name="draw_calibration"),
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
