"""Which baseline: from settings to the description of one of these models."""

from collections.abc import Sequence

from llm_ctr_pipeline.models.baselines.dcnv2 import DcnV2, DcnV2Description
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm, DeepFmDescription
from llm_ctr_pipeline.models.baselines.finalmlp import FinalMlp, FinalMlpDescription
from llm_ctr_pipeline.models.baselines.logistic_regression import (
    LogisticRegression,
    LogisticRegressionDescription,
)
from llm_ctr_pipeline.models.settings import (
    BaselineNetwork,
    DcnV2NetworkSettings,
    DcnV2Settings,
    DeepFmNetworkSettings,
    DeepFmSettings,
    EncoderSettings,
    FinalMlpNetworkSettings,
    FinalMlpSettings,
)

Baseline = DeepFm | LogisticRegression | DcnV2 | FinalMlp
BaselineDescription = (
    DeepFmDescription | LogisticRegressionDescription | DcnV2Description | FinalMlpDescription
)


def describe_baseline(
    shared: EncoderSettings, network: BaselineNetwork, field_sizes: Sequence[int]
) -> BaselineDescription:
    """Describe the baseline that has these parts.

    Args:
        shared: Those that all models have; a baseline may have some of them alone.
        network: Its own.
        field_sizes: Number of ids of each field.
    """
    sizes = tuple(field_sizes)
    if isinstance(network, DeepFmNetworkSettings):
        config = DeepFmSettings.join(shared, network)
        return DeepFmDescription(config=config, field_sizes=sizes)
    if isinstance(network, DcnV2NetworkSettings):
        crossed = DcnV2Settings.join(shared, network)
        return DcnV2Description(config=crossed, field_sizes=sizes)
    if isinstance(network, FinalMlpNetworkSettings):
        two_streams = FinalMlpSettings.join(shared, network)
        return FinalMlpDescription(config=two_streams, field_sizes=sizes)
    return LogisticRegressionDescription(config=network, field_sizes=sizes)
