"""The evaluate pipeline: checkpoint and encoded rows → predictions → metrics, figures, report."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.evaluate.nodes import measure, predict, slice_rows
from llm_ctr_pipeline.reporting.calibration_figures import calibration_figure, score_distribution
from llm_ctr_pipeline.reporting.pages.model_report import model_report
from llm_ctr_pipeline.reporting.roc_figures import roc_figure
from llm_ctr_pipeline.reporting.slice_figures import auc_by_hour, auc_by_value

FIGURES = ("roc", "calibration", "scores", "auc_by_value", "auc_by_hour")
# What a report is made of, beside what trained the model.
REPORTED = [
    *("evaluation_report", "evaluation_slices", "evaluated_summary", "run_facts"),
    *(f"evaluation_{figure}" for figure in FIGURES),
]


def create_pipeline() -> Pipeline:
    """Return the pipeline that tests the checkpoint and the rows which parameters name."""
    report = Node(model_report, REPORTED, "evaluation_page", name="write_report")
    return Pipeline([_create_measurement(), report])


def create_test_pipeline() -> Pipeline:
    """Return the pipeline that tests the best checkpoint of a training path on the test split.

    Its report also says how the model was trained.
    """
    trained = ["training_results", "learning_curve"]
    report = Node(model_report, [*REPORTED, *trained], "report_page", name="write_report")
    return Pipeline(
        [_create_measurement(), report],
        inputs={
            "evaluated_model": "best_model",
            "evaluated_rows": "test_encoded",
            "evaluated_summary": "summary",
            **{name: name for name in ("run_facts", *trained)},
        },
        outputs={
            "evaluation_predictions": "test_predictions",
            "evaluation_report": "evaluation_test",
            "evaluation_metrics": "metrics_test",
            "evaluation_slices": "slices_test",
            **{f"evaluation_{figure}": f"{figure}_test" for figure in FIGURES},
        },
    )


def _create_measurement() -> Pipeline:
    """Return all of a test but its report."""
    tested = ["evaluated_summary", "params:evaluation"]
    reported = ["evaluation_predictions", "evaluation_report"]
    sliced = ["evaluation_slices", "evaluation_report"]
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
            Node(
                slice_rows,
                ["evaluation_predictions", "evaluated_model", "evaluated_rows", *tested],
                "evaluation_slices",
                name="slice_rows",
            ),
            Node(roc_figure, reported, "evaluation_roc", name="draw_roc"),
            Node(calibration_figure, reported, "evaluation_calibration", name="draw_calibration"),
            Node(score_distribution, reported, "evaluation_scores", name="draw_scores"),
            Node(auc_by_value, sliced, "evaluation_auc_by_value", name="draw_auc_by_value"),
            Node(auc_by_hour, sliced, "evaluation_auc_by_hour", name="draw_auc_by_hour"),
        ]
    )
