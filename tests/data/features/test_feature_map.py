"""Which ids may be read with which feature map."""

import pytest

from llm_ctr_pipeline.data.features.feature_map import (
    FeatureMap,
    Field,
    FingerprintError,
    FitSource,
    check_ids,
)
from tests.data.logs import changed

OWN = FeatureMap(
    dataset="x4",
    fields=(Field(name="a", size=3),),
    min_count=2,
    fit_on=FitSource(
        source="generated log", file="train.csv", rows=100, clicks=17, fingerprint="ab" * 32
    ),
    fingerprint="cd" * 32,
)
JOINT = changed(OWN, dataset="joint", fingerprint="ef" * 32, extends=OWN.fingerprint)


@pytest.mark.parametrize("known", [OWN, JOINT])
@pytest.mark.parametrize("ids_of", [OWN, JOINT])
def test_a_map_and_the_one_that_extends_it_agree(known: FeatureMap, ids_of: FeatureMap) -> None:
    check_ids(known, ids_of.fingerprint, ids_of.extends)


@pytest.mark.parametrize("known", [OWN, JOINT])
@pytest.mark.parametrize("extends", [None, "1" * 64])
def test_ids_of_another_map_are_refused(known: FeatureMap, extends: str | None) -> None:
    message = f"feature map {known.fingerprint[:12]} and the data are encoded with 000000000000, so"
    with pytest.raises(FingerprintError, match=message):
        check_ids(known, "0" * 64, extends)
