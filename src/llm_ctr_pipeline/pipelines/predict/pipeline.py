"""The predict pipeline: a checkpoint and raw rows → probabilities."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines.predict.nodes import report_scored, score_rows


def create_pipeline() -> Pipeline:
    """Return the pipeline that scores the raw rows which parameters name."""
    return Pipeline(
        [
            Node(
                score_rows,
                [
                    *("scoring_model", "rows_to_score"),
                    *("params:predict", "params:llm", "params:training"),
                ],
                "scored_rows",
                name="score_rows",
            ),
            Node(report_scored, "scored_rows", "scoring_report", name="report_scored"),
        ]
    )
