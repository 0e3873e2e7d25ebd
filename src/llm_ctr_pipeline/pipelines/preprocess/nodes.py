"""What the preprocess pipeline does, step by step."""

from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.encode import encode
from llm_ctr_pipeline.data.feature_map import FeatureMap, FitSource
from llm_ctr_pipeline.data.fit import build_feature_map
from llm_ctr_pipeline.data.generated_log import SOURCE, GeneratedLogSettings
from llm_ctr_pipeline.data.generated_log import provide_generated_log as provide_log
from llm_ctr_pipeline.data.normalise import normalise
from llm_ctr_pipeline.data.raw_check import check_raw_log as check_files
from llm_ctr_pipeline.data.raw_csv import RawFile
from llm_ctr_pipeline.data.schema import AVAZU_X4
from llm_ctr_pipeline.data.summary import summarise_split
from llm_ctr_pipeline.data.vocabulary import fit_vocabulary as fit
from llm_ctr_pipeline.params import GeneratedLogParams, PreprocessParams


def provide_generated_log(
    raw_folder: Path, generated_folder: Path, generated_log: GeneratedLogParams | None
) -> dict[str, Any]:
    """Write the generated log where it is the raw log asked for; say what the source is."""
    if generated_log is None or raw_folder != generated_folder:
        return {"source": raw_folder.name, "best_auc": None}
    card = provide_log(raw_folder, GeneratedLogSettings(**generated_log.model_dump()))
    return {"source": SOURCE, "best_auc": card["best_auc"]}


def check_raw_log(
    source: dict[str, Any], train: RawFile, valid: RawFile, test: RawFile
) -> dict[str, Any]:
    """Refuse a raw log with a fault before anything is written; return its data card."""
    facts = check_files({"train": train, "valid": valid, "test": test})
    return {**source, "splits": {split: found.to_dict() for split, found in facts.items()}}


def normalise_split(raw: RawFile, raw_log: dict[str, Any]) -> ir.Table:
    """Bring one split to the unified schema; the data card only says that it was checked."""
    return normalise(raw.table, raw.schema)


def fit_vocabulary(train: ir.Table, preprocess: PreprocessParams) -> ir.Table:
    """Number the values that the training split holds often enough."""
    return fit(train, AVAZU_X4.fields, preprocess.min_count)


def make_feature_map(
    vocabulary: ir.Table, raw_log: dict[str, Any], preprocess: PreprocessParams
) -> dict[str, Any]:
    """Describe the fields, and the data that the vocabulary was fit on."""
    fit_on = FitSource(source=raw_log["source"], **raw_log["splits"]["train"])
    return build_feature_map(
        vocabulary, AVAZU_X4.dataset, AVAZU_X4.fields, preprocess.min_count, fit_on
    ).to_dict()


def encode_split(
    normalised: ir.Table, vocabulary: ir.Table, feature_map: dict[str, Any]
) -> ir.Table:
    """Replace one split's values by their ids."""
    return encode(normalised, vocabulary, FeatureMap.from_dict(feature_map).names)


def summarise(
    raw_log: dict[str, Any],
    feature_map: dict[str, Any],
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
        "dataset": feature_map["dataset"],
        "fingerprint": feature_map["fingerprint"],
        "source": raw_log["source"],
        "best_auc": raw_log["best_auc"],
        "splits": {
            split: {**summary, "raw_fingerprint": raw[split]["fingerprint"]}
            for split, summary in summaries.items()
        },
    }
