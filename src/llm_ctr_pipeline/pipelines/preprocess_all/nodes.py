"""What preprocess_all does beside preprocess: x1 and x2, and the joint vocabulary."""

from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.build_feature_map import build_joint_map
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.features.joint import join_vocabularies as join
from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.raw.raw_log import RawFolder, RawRows, raw_splits
from llm_ctr_pipeline.data.storage.store_path import Place
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import (
    RecodedLog,
    RecodedRows,
    Recodings,
    provide_recoded_log,
    rows_of_log,
)
from llm_ctr_pipeline.data.synthetic.generated_log import SOURCE, first_rows, read_truth
from llm_ctr_pipeline.params import LogParams, PreprocessParams


def provide_recoded_logs(
    raw_folder: RawFolder,
    raw_rows: RawRows,
    raw_log: dict[str, Any],
    log: LogParams,
    preprocess: PreprocessParams,
    recoded_folder: Place,
    x1_folder: RawFolder,
    x2_folder: RawFolder,
    recoding: Recodings,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write x1 and x2 where no folders of their own are given; say what the sources are.

    Of the generated log they hold all rows, split anew; of another log its training rows
    alone, since rows of its test split must not be trained on.
    """
    folders = {"x1": (x1_folder, recoding.x1), "x2": (x2_folder, recoding.x2)}
    is_generated = raw_log["source"] == SOURCE
    used = SPLITS if is_generated else SPLITS[:1]
    schema = log.to_schema()
    raw = raw_splits(raw_rows, schema, preprocess.every_nth_row, raw_log["cuts"])
    begin = first_rows(raw_folder.path) if is_generated else {"train": 0}
    # What is held out of train has positions in the training file.
    starts = {split: begin[split if split in schema.splitting.files else "train"] for split in used}
    source = SOURCE if is_generated else f"re-encoded from {log.dataset}'s training rows"
    fingerprints = {split: raw_log["splits"][split]["fingerprint"] for split in used}
    made_from = RecodedRows(source=source, splits=fingerprints)
    sources: list[dict[str, Any]] = []
    for dataset, (folder, settings) in folders.items():
        if folder.path != recoded_folder / dataset:
            sources.append({"source": folder.path.name, "best_auc": None})
            continue
        manifest = provide_recoded_log(
            folder,
            RecodedLog(dataset=dataset, settings=settings, made_from=made_from),
            rows_of_log({split: raw[split].table for split in used}, starts),
            read_truth(raw_folder.connection, raw_folder.path) if is_generated else None,
        )
        sources.append({"source": source, "best_auc": manifest.best_auc})
    return sources[0], sources[1]


def join_vocabularies(
    vocabulary: ir.Table,
    x1_vocabulary: ir.Table,
    x2_vocabulary: ir.Table,
    log: LogParams,
    x1_log: LogParams,
    x2_log: LogParams,
) -> ir.Table:
    """Number the values of the three logs together; the first keeps its ids."""
    schema = log.to_schema()
    for other in (x1_log.to_schema(), x2_log.to_schema()):
        if other.names != schema.names:
            raise SettingsError(
                f"the {schema.dataset} log has the fields {', '.join(schema.names)}, but "
                f"{other.dataset} has {', '.join(other.names)}: a joint vocabulary needs the same"
            )
    logs = {log.dataset: vocabulary, x1_log.dataset: x1_vocabulary, x2_log.dataset: x2_vocabulary}
    return join(logs, schema.names, schema.time_fields)


def make_joint_map(
    joint_vocabulary: ir.Table,
    feature_map: dict[str, Any],
    x1_feature_map: dict[str, Any],
    x2_feature_map: dict[str, Any],
) -> dict[str, Any]:
    """Describe the joint vocabulary, the map that it extends and the data of all three."""
    first, *others = (
        FeatureMap.from_dict(content) for content in (feature_map, x1_feature_map, x2_feature_map)
    )
    return build_joint_map(joint_vocabulary, first, others).to_dict()
