"""The train pipeline: train end to end, then test the best checkpoint."""

from kedro.pipeline import Node, Pipeline

from llm_ctr_pipeline.pipelines import evaluate
from llm_ctr_pipeline.pipelines.train.nodes import draw_learning_curve, train_single_phase


def create_pipeline() -> Pipeline:
    """Return the main job: single-phase training on x4 and the test of its best checkpoint."""
    training = Pipeline(
        [
            Node(
                func=train_single_phase,
                inputs=[
                    "train_encoded",
                    "valid_encoded",
                    "vocabulary",
                    "feature_map",
                    "raw_log",
                    "summary",
                    "state_folder",
                    "params:model",
                    "params:llm",
                    "params:training",
                ],
                outputs=["best_model", "training_results"],
                name="train_single_phase",
            ),
            Node(
                func=draw_learning_curve,
                inputs="training_results",
                outputs="learning_curve",
                name="draw_learning_curve",
            ),
        ]
    )
    test = Pipeline(
        evaluate.create_pipeline(),
        inputs={
            "evaluated_model": "best_model",
            "evaluated_rows": "test_encoded",
            "evaluated_feature_map": "feature_map",
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
    return Pipeline(
        training + test,
        namespace="single_phase",
        inputs={
            "train_encoded",
            "valid_encoded",
            "test_encoded",
            "vocabulary",
            "feature_map",
            "raw_log",
            "summary",
        },
        parameters={"params:model", "params:llm", "params:training"},
    )
