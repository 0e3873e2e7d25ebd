"""What the preprocess pipeline does, step by step."""

from functools import partial

import ibis.expr.types as ir

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map
from llm_ctr_pipeline.data.features.data_quality import (
    unseen_fields,
    warn_of_rows_in_train,
    warn_of_unseen,
)
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.encode import Encoded
from llm_ctr_pipeline.data.features.encode import encode_splits as encode
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, FitSource
from llm_ctr_pipeline.data.features.split_summary import summarise_split
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary as fit
from llm_ctr_pipeline.data.features.vocabulary import part_of
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.data.raw.manifest import RawLog, RawManifest
from llm_ctr_pipeline.data.raw.raw_log import (
    CheckedLog,
    RawRows,
    describe_files,
    first_rows,
    open_raw_files,
)
from llm_ctr_pipeline.data.raw.raw_log import check_raw_log as check
from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.data.storage.store_path import AnyPath
from llm_ctr_pipeline.data.synthetic.generated_log import (
    GeneratedLogSettings,
    provide_generated_log,
)
from llm_ctr_pipeline.data.synthetic.raw_source import RawSource, leave_as_it_is, origin_of
from llm_ctr_pipeline.params import PreprocessParams, RawParams


def provide_raw_log(raw: RawParams, generated_log: GeneratedLogSettings | None) -> RawSource:
    """Say what the raw folder is to hold: its own log, or the generated one."""
    if raw.source == "folder" or generated_log is None:
        return leave_as_it_is
    return partial(provide_generated_log, settings=generated_log)


def read_raw_log(raw_folder: AnyPath, log: LogSchema, raw: RawParams) -> RawManifest:
    """Check the first line of each raw file; the rows are read when they are saved."""
    open_raw_files(raw_folder, log)
    origin = None if raw.source == "folder" else origin_of(raw_folder)
    return describe_files(raw_folder, log, origin)


def check_raw_log(raw_rows: RawRows, preprocess: PreprocessParams) -> RawLog:
    """Check every row, or refuse the log for a fault; count the splits."""
    return check(raw_rows, preprocess.every_nth_row)


def fit_vocabulary(raw_rows: RawRows, raw_log: RawLog, preprocess: PreprocessParams) -> ir.Table:
    """Number the values that the training split holds often enough."""
    train = CheckedLog(raw_rows, raw_log).split("train")
    return fit(train.marked, raw_log.log, preprocess.min_count)


def make_feature_map(
    vocabulary: ir.Table, raw_log: RawLog, preprocess: PreprocessParams
) -> FeatureMap:
    """Describe the fields, and the data that the vocabulary was fit on."""
    fit_on = FitSource(source=raw_log.source, **dict(raw_log.splits["train"]))
    log = raw_log.log
    return build_feature_map(vocabulary, log.dataset, log.names, preprocess.min_count, fit_on)


def encode_splits(
    raw_rows: RawRows, raw_log: RawLog, vocabulary: ir.Table
) -> tuple[Encoded, Encoded, Encoded]:
    """Replace all values by their ids, in this log's part of the vocabulary: train, valid, test."""
    checked = CheckedLog(raw_rows, raw_log)
    encoded = encode(checked, part_of(vocabulary, raw_log.log.dataset))
    return encoded["train"], encoded["valid"], encoded["test"]


def summarise(
    raw_rows: RawRows,
    raw_log: RawLog,
    vocabulary: ir.Table,
    feature_map: FeatureMap,
    train: EncodedFile,
    valid: EncodedFile,
    test: EncodedFile,
) -> DatasetSummary:
    """Count the encoded splits: written last, so that it vouches for all the others."""
    files = {"train": train, "valid": valid, "test": test}
    encoded = {split: read_parquet(raw_rows.connection, one.path) for split, one in files.items()}
    splits = {
        split: summarise_split(split, table, feature_map.names, raw_log.splits[split])
        for split, table in encoded.items()
    }
    warn_of_rows_in_train(encoded.pop("train"), encoded, feature_map.names)
    for split, counts in splits.items():
        unseen = unseen_fields(splits["train"], counts)
        splits[split] = counts.model_copy(update={"unseen_fields": unseen})
        warn_of_unseen(CheckedLog(raw_rows, raw_log), vocabulary, split, splits[split])
    return DatasetSummary(
        dataset=raw_log.log.dataset,
        log=raw_log.log,
        feature_map=feature_map.dataset,
        fingerprint=feature_map.fingerprint,
        extends=feature_map.extends,
        source=raw_log.source,
        best_auc=raw_log.best_auc,
        splits=splits,
        example=first_rows(raw_rows.tables["train"], raw_log.log),
    )
