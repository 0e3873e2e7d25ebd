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
                    "x4_train_encoded",
                    "x4_valid_encoded",
                    "x4_vocabulary",
                    "x4_feature_map",
                    "x4_raw_log",
                    "x4_summary",
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
            "evaluated_rows": "x4_test_encoded",
            "evaluated_feature_map": "x4_feature_map",
            "evaluated_summary": "x4_summary",
        },
        outputs={
            "evaluation_predictions": "x4_test_predictions",
            "evaluation_report": "evaluation_x4_test",
            "evaluation_metrics": "metrics_x4_test",
            "evaluation_roc": "roc_x4_test",
            "evaluation_calibration": "calibration_x4_test",
        },
    )
    return Pipeline(
        training + test,
        namespace="single_phase",
        inputs={
            "x4_train_encoded",
            "x4_valid_encoded",
            "x4_test_encoded",
            "x4_vocabulary",
            "x4_feature_map",
            "x4_raw_log",
            "x4_summary",
        },
        parameters={"params:model", "params:llm", "params:training"},
    )
