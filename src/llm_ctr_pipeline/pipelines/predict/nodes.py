"""What scoring raw rows does, step by step."""

import logging

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.log.schema import ROW
from llm_ctr_pipeline.data.storage.store_path import AnyPath
from llm_ctr_pipeline.models.settings import LlmSettings
from llm_ctr_pipeline.params import PredictParams
from llm_ctr_pipeline.pipelines.evaluate.nodes import model_of
from llm_ctr_pipeline.pipelines.lazy_types import Checkpoint
from llm_ctr_pipeline.serving.encoder import RowEncoder
from llm_ctr_pipeline.serving.raw_files import open_rows
from llm_ctr_pipeline.serving.scored_rows import (
    PROBABILITY,
    RowsToScore,
    ScoredRows,
    ScoringReport,
)
from llm_ctr_pipeline.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


def score_rows(
    checkpoint: Checkpoint,
    rows_to_score: AnyPath,
    predict: PredictParams,
    llm: LlmSettings,
    training: TrainingSettings,
) -> RowsToScore:
    """Check the files' first lines; the rows are scored while they are saved."""
    from llm_ctr_pipeline.training.checkpoint import WEIGHTS
    from llm_ctr_pipeline.training.score import scoring

    if predict.input is None:
        raise SettingsError(
            "predict.input is not set: name a CSV or Parquet file, or a folder of them, by "
            "--params predict.input=FILE"
        )
    log = checkpoint.summary.log
    if taken := {ROW, PROBABILITY} & {*predict.columns}:
        raise SettingsError(f"predict.keep names {taken.pop()}, which is written in any case")
    encoder = RowEncoder(log, checkpoint.vocabulary)
    return RowsToScore(
        files=open_rows(rows_to_score, log, [*encoder.columns, *predict.columns]),
        encoder=encoder,
        score=scoring(model_of(checkpoint, llm, training), training),
        batch_size=training.eval_batch_size,
        keep=predict.columns,
        refuse_bad=predict.on_bad_row == "refuse",
        summary=checkpoint.summary,
        checkpoint=checkpoint.files.get(WEIGHTS, ""),
    )


def report_scored(scored: ScoredRows) -> ScoringReport:
    """Tell what was scored, and warn of fields whose values the model hardly knows any more."""
    report = scored.report()
    for name, drift in report.unknown.items():
        if drift.doubled:
            logger.warning(
                f"Field {name}: {drift.rows:.1%} of the values are out of the vocabulary, twice as "
                f"many as in training ({drift.train:.1%} of the training rows, {drift.valid:.1%} "
                "of the validation rows): look at where they come from, or train on newer rows"
            )
    return report
