"""What preprocess_all does beside preprocess: x1 and x2, and the joint vocabulary."""

from functools import partial

import ibis.expr.types as ir

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.build_feature_map import build_joint_map
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.features.vocabulary import join_vocabularies as join
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog, RawRows
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import Recodings
from llm_ctr_pipeline.data.synthetic.raw_source import RawSource, leave_as_it_is, recode
from llm_ctr_pipeline.params import RawParams


def provide_recoded_logs(
    raw_rows: RawRows,
    raw_log: RawLog,
    x1_raw: RawParams,
    x2_raw: RawParams,
    recoding: Recodings,
) -> tuple[RawSource, RawSource]:
    """Say what the folders of x1 and x2 are to hold: their own logs, or the one at hand."""
    recode_log = partial(recode, checked=CheckedLog(raw_rows, raw_log))
    x1 = partial(recode_log, dataset="x1", recoding=recoding.x1)
    x2 = partial(recode_log, dataset="x2", recoding=recoding.x2)
    return (
        x1 if x1_raw.source == "recoded" else leave_as_it_is,
        x2 if x2_raw.source == "recoded" else leave_as_it_is,
    )


def join_vocabularies(
    vocabulary: ir.Table,
    x1_vocabulary: ir.Table,
    x2_vocabulary: ir.Table,
    raw_log: RawLog,
    x1_raw_log: RawLog,
    x2_raw_log: RawLog,
) -> ir.Table:
    """Number the values of the three logs together; the first keeps its ids."""
    log = raw_log.log
    for other in (x1_raw_log.log, x2_raw_log.log):
        if other.names != log.names:
            raise SettingsError(
                f"the {log.dataset} log has the fields {', '.join(log.names)}, but "
                f"{other.dataset} has {', '.join(other.names)}: a joint vocabulary needs the same"
            )
    logs = {
        log.dataset: vocabulary,
        x1_raw_log.log.dataset: x1_vocabulary,
        x2_raw_log.log.dataset: x2_vocabulary,
    }
    return join(logs, log.names, log.time_fields)


def make_joint_map(
    joint_vocabulary: ir.Table,
    feature_map: FeatureMap,
    x1_feature_map: FeatureMap,
    x2_feature_map: FeatureMap,
) -> FeatureMap:
    """Describe the joint vocabulary, the map that it extends and the data of all three."""
    return build_joint_map(joint_vocabulary, feature_map, [x1_feature_map, x2_feature_map])
