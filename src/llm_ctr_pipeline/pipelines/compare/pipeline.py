"""The compare pipeline: results of several models → table, differences, figures, report."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline
from kedro.pipeline.preview_contract import MermaidPreview

from llm_ctr_pipeline.pipelines.compare.nodes import compare, track
from llm_ctr_pipeline.reporting.auc_against_time import auc_against_time
from llm_ctr_pipeline.reporting.calibration_figures import calibration_comparison
from llm_ctr_pipeline.reporting.comparison_table import markdown_of
from llm_ctr_pipeline.reporting.forest import difference_figure
from llm_ctr_pipeline.reporting.pages.comparison_report import comparison_report
from llm_ctr_pipeline.reporting.roc_figures import roc_comparison
from llm_ctr_pipeline.resolvers import project_root
from llm_ctr_pipeline.training.settings import PATHS


def create_pipeline() -> Pipeline:
    """Return the pipeline that compares the paths or MLflow runs which parameters name."""
    scored = ["compared_models", "comparison"]
    return Pipeline(
        [
            Node(
                compare,
                ["model_output_folder", "reporting_folder", "params:compare"],
                scored,
                name="compare",
                preview_fn=compared_paths,
            ),
            Node(track, "comparison", "comparison_metrics", name="track_comparison"),
            Node(markdown_of, "comparison", "comparison_table", name="write_comparison_table"),
            Node(
                difference_figure,
                "comparison",
                "comparison_differences",
                name="draw_differences",
            ),
            Node(roc_comparison, scored, "comparison_roc", name="draw_comparison_roc"),
            Node(
                calibration_comparison,
                scored,
                "comparison_calibration",
                name="draw_comparison_calibration",
            ),
            Node(
                auc_against_time,
                "comparison",
                "comparison_auc_against_time",
                name="draw_auc_against_time",
            ),
            Node(
                comparison_report,
                [
                    *("comparison", "run_facts", "comparison_differences"),
                    *("comparison_auc_against_time", "comparison_calibration", "comparison_roc"),
                ],
                "comparison_page",
                name="write_comparison_report",
            ),
        ]
    )


def compared_paths() -> MermaidPreview:
    """Draw what there is to compare: found by folder, it has no lines in Kedro-Viz's picture."""
    reports = Path(project_root()) / "data/08_reporting"
    tested = [path for path in PATHS if (reports / path).is_dir()]
    return MermaidPreview(
        "\n".join(["flowchart LR", *(f"  {path} --> compare" for path in tested)])
    )
