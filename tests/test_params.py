import re
from typing import Any

import pytest
from pydantic import ValidationError

from llm_ctr_pipeline.params import CompareParams
from tests.pipelines.compared import DEFAULTS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": "deepfm"}, "it should name two or more"),
        ({"paths": ""}, "it should name two or more"),
        ({"paths": "deepfm deepfm"}, "it should name two or more, each once"),
        ({"paths": "deepfm lstm"}, "it should be all, or names out of deepfm, single_phase"),
        ({"runs": "1234"}, "it should name two or more"),
        ({"runs": "12 34", "paths": "deepfm two_phase"}, "compare names both paths and runs"),
        ({"split": "holdout"}, "should be 'train', 'valid' or 'test'"),
        ({"dataset": "../x4"}, "should match pattern"),
    ],
)
def test_settings_that_name_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        CompareParams(**DEFAULTS | settings)
