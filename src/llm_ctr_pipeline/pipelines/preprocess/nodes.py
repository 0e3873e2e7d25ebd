"""What the preprocess pipeline does, step by step."""

from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map
from llm_ctr_pipeline.data.features.encode import Encoded
from llm_ctr_pipeline.data.features.encode import encode_splits as encode
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, FitSource
from llm_ctr_pipeline.data.features.joint import part_of
from llm_ctr_pipeline.data.features.split_summary import summarise_split
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary as fit
from llm_ctr_pipeline.data.raw.raw_log import RawFolder, RawRows, raw_splits
from llm_ctr_pipeline.data.raw.raw_log import read_raw_log as read_log
from llm_ctr_pipeline.data.storage.store_path import Place
from llm_ctr_pipeline.data.synthetic.generated_log import SOURCE, GeneratedLogSettings
from llm_ctr_pipeline.data.synthetic.generated_log import provide_generated_log as provide_log
from llm_ctr_pipeline.params import LogParams, PreprocessParams


def provide_generated_log(
    raw_folder: RawFolder, generated_folder: Place, generated_log: GeneratedLogSettings | None
) -> dict[str, Any]:
    """Write the generated log where it is the raw log asked for; say what the source is."""
    if generated_log is None or raw_folder.path != generated_folder:
        return {"source": raw_folder.path.name, "best_auc": None}
    manifest = provide_log(raw_folder.path, generated_log)
    return {"source": SOURCE, "best_auc": manifest.best_auc}


def read_raw_log(
    source: dict[str, Any], raw_folder: RawFolder, log: LogParams, preprocess: PreprocessParams
) -> tuple[RawRows, dict[str, Any]]:
    """Read a raw log into Parquet, or refuse it for a fault; return its rows and data card."""
    rows, facts = read_log(raw_folder, log.to_schema(), preprocess.every_nth_row)
    return rows, {**source, **facts}


def fit_vocabulary(
    raw_rows: RawRows, raw_log: dict[str, Any], log: LogParams, preprocess: PreprocessParams
) -> ir.Table:
    """Number the values that the training split holds often enough."""
    schema = log.to_schema()
    splits = raw_splits(raw_rows, schema, preprocess.every_nth_row, raw_log["cuts"])
    return fit(splits["train"].marked, schema, preprocess.min_count)


def make_feature_map(
    vocabulary: ir.Table, raw_log: dict[str, Any], log: LogParams, preprocess: PreprocessParams
) -> dict[str, Any]:
    """Describe the fields, and the data that the vocabulary was fit on."""
    fit_on = FitSource(source=raw_log["source"], **raw_log["splits"]["train"])
    names = log.to_schema().names
    return build_feature_map(vocabulary, log.dataset, names, preprocess.min_count, fit_on).to_dict()


def encode_splits(
    raw_rows: RawRows,
    raw_log: dict[str, Any],
    vocabulary: ir.Table,
    log: LogParams,
    preprocess: PreprocessParams,
) -> tuple[Encoded, Encoded, Encoded]:
    """Replace all values by their ids, in this log's part of the vocabulary: train, valid, test."""
    schema = log.to_schema()
    own = part_of(vocabulary, log.dataset)
    raw = raw_splits(raw_rows, schema, preprocess.every_nth_row, raw_log["cuts"])
    encoded = encode(raw, own, schema)
    return encoded["train"], encoded["valid"], encoded["test"]


def summarise(
    raw_log: dict[str, Any],
    feature_map: dict[str, Any],
    log: LogParams,
    train: ir.Table,
    valid: ir.Table,
    test: ir.Table,
) -> dict[str, Any]:
    """Count the encoded splits: written last, so that it vouches for all the others."""
    names = FeatureMap.from_dict(feature_map).names
    encoded = {"train": train, "valid": valid, "test": test}
    raw = raw_log["splits"]
    summaries = {
        split: summarise_split(split, table, names, raw[split]["rows"]).to_dict()
        for split, table in encoded.items()
    }
    return {
        "dataset": log.dataset,
        "feature_map": feature_map["dataset"],
        "fingerprint": feature_map["fingerprint"],
        "extends": feature_map.get("extends"),
        "source": raw_log["source"],
        "best_auc": raw_log["best_auc"],
        "splits": {
            split: {**summary, "raw_fingerprint": raw[split]["fingerprint"]}
            for split, summary in summaries.items()
        },
    }
