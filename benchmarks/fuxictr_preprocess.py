"""FuxiCTR's preprocessing of one training split; run with the Python of its environment.

python fuxictr_preprocess.py TRAIN_CSV FOLDER MIN_COUNT

Writes FOLDER/x4/feature_vocab.json and FOLDER/x4/train.parquet, as FuxiCTR does.
"""

import sys
from pathlib import Path

from fuxictr.datasets.avazu import (  # type: ignore[import-not-found]
    CustomizedFeatureProcessor,
)
from fuxictr.preprocess import build_dataset  # type: ignore[import-not-found]

DERIVED = {"hour": "convert_hour", "weekday": "convert_weekday", "weekend": "convert_weekend"}


def main(train: Path, folder: Path, min_count: int) -> None:
    """Fit the vocabularies and encode the rows, with the settings of FuxiCTR's Avazu_x4."""
    with train.open(encoding="utf-8") as file:
        columns = file.readline().strip().split(",")
    common = {"active": True, "dtype": "str", "type": "categorical"}
    raw = [name for name in columns if name not in {"id", "click", "hour"}]
    derived = [
        {"name": name, **common, "preprocess": function} for name, function in DERIVED.items()
    ]
    encoder = CustomizedFeatureProcessor(
        feature_cols=[{"name": raw, **common}, *derived],
        label_col={"name": "click", "dtype": "float"},
        dataset_id="x4",
        data_root=str(folder),
    )
    build_dataset(encoder, train_data=str(train), min_categr_count=min_count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
