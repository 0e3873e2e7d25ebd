"""Preprocessing one training split with pandas and scikit-learn, as a notebook would.

python pandas_preprocess.py TRAIN_CSV FOLDER MIN_COUNT

Writes FOLDER/vocabulary.json and FOLDER/train.parquet.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.preprocessing import OrdinalEncoder


def main(train: Path, folder: Path, min_count: int) -> None:
    """Fit one encoder for all fields and encode the rows."""
    rows = pd.read_csv(train, dtype=str, keep_default_na=False)
    time = pd.to_datetime(rows["hour"], format="%y%m%d%H")
    weekday = (time.dt.dayofweek + 1) % 7
    fields = rows.drop(columns=["id", "click"]).assign(
        hour=time.dt.hour.astype(str),
        weekday=weekday.astype(str),
        weekend=weekday.isin([0, 6]).astype(int).astype(str),
    )
    encoder = OrdinalEncoder(
        dtype=np.int32,
        min_frequency=min_count,
        handle_unknown="use_encoded_value",
        unknown_value=-1,
    )
    encoded = pd.DataFrame(encoder.fit_transform(fields), columns=fields.columns)
    encoded.insert(0, "label", rows["click"].astype("int8"))
    folder.mkdir(parents=True, exist_ok=True)
    encoded.to_parquet(folder / "train.parquet")
    vocabulary = {
        name: sorted({*values} - {*([] if rare is None else rare)})
        for name, values, rare in zip(
            fields.columns, encoder.categories_, encoder.infrequent_categories_, strict=True
        )
    }
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
