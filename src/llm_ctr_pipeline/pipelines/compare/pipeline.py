"""The compare pipeline: results of several models → table, differences with intervals, figures."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.compare.nodes import (
    compare,
    draw_auc_against_time,
    draw_calibration,
    draw_roc,
    track,
    write_table,
)


def create_pipeline() -> Pipeline:
    """Return the pipeline that compares the paths or MLflow runs which parameters name."""
    return Pipeline(
        [
            Node(
                func=compare,
                inputs=["model_output_folder", "reporting_folder", "params:compare"],
                outputs=["compared_models", "comparison"],
                name="compare",
            ),
            Node(
                func=track,
                inputs="comparison",
                outputs="comparison_metrics",
                name="track_comparison",
            ),
            Node(
                func=write_table,
                inputs="comparison",
                outputs="comparison_table",
                name="write_comparison_table",
            ),
            Node(
                func=draw_roc,
                inputs=["compared_models", "comparison"],
                outputs="comparison_roc",
                name="draw_comparison_roc",
            ),
            Node(
                func=draw_calibration,
                inputs=["compared_models", "comparison"],
                outputs="comparison_calibration",
                name="draw_comparison_calibration",
            ),
            Node(
                func=draw_auc_against_time,
                inputs="comparison",
                outputs="comparison_auc_against_time",
                name="draw_auc_against_time",
            ),
        ]
    )
