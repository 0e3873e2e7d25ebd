"""Whether what earlier runs left may be kept by `--only-missing-outputs`.

Kedro looks at existence alone. What was made of other raw files, with other parameters, or
before a run that was cut off, exists too.
"""

from collections.abc import Iterator
from itertools import product

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from llm_ctr_pipeline.data.raw.raw_log import describe_files
from llm_ctr_pipeline.data.storage.store_path import AnyPath, changed_at, is_whole, parse_path
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import RecodedLog
from llm_ctr_pipeline.data.synthetic.generated_log import GeneratedLog
from llm_ctr_pipeline.data.synthetic.manifest import read_manifest


def reason_to_redo(pipeline: Pipeline, catalog: DataCatalog) -> str | None:
    """Say why outputs that exist cannot be kept; None if all of them can."""
    reasons = (
        reason
        for node in pipeline.nodes
        for rule in (_generated_anew, _recoded_anew, _of_another_log, _older_than_its_inputs)
        for reason in rule(node, catalog)
    )
    return next(reasons, None)


def _generated_anew(node: Node, catalog: DataCatalog) -> Iterator[str]:
    """The generated log has other settings now, and Kedro passes over the node that names them."""
    if "params:generated_log" not in node.inputs or not catalog.exists("raw_log"):
        return
    settings, folder = catalog.load("params:generated_log"), catalog.load("raw_folder")
    if settings is None or catalog.load("params:raw").source != "generated":
        return
    manifest = read_manifest(folder, GeneratedLog)
    if manifest is not None and manifest.log != GeneratedLog(settings=settings):
        yield f"{folder} is to be generated with other settings"


def _recoded_anew(node: Node, catalog: DataCatalog) -> Iterator[str]:
    """A log is to be recoded with other settings now, into the folder that holds what was made."""
    if "params:recoding" not in node.inputs:
        return
    for dataset, settings in catalog.load("params:recoding"):
        if catalog.load(f"params:{dataset}.raw").source != "recoded":
            continue
        folder = catalog.load(f"{dataset}.raw_folder")
        manifest = read_manifest(folder, RecodedLog)
        if manifest is not None and (manifest.log is None or manifest.log.settings != settings):
            yield f"{folder} is to be recoded with other settings"


def _of_another_log(node: Node, catalog: DataCatalog) -> Iterator[str]:
    """The raw files are others now, or the parameters of preprocessing."""
    written = {_without_namespace(name): name for name in node.outputs if catalog.exists(name)}
    read = {_without_namespace(name): name for name in node.inputs}
    if "raw_rows" in written:
        files = describe_files(catalog.load(read["raw_folder"]), catalog.load(read["params:log"]))
        if not catalog.load(written["raw_rows"]).manifest.is_of(files):
            yield f"{_path(written['raw_rows'], catalog)} is of other raw files or parameters"
    if "raw_log" in written:
        now = catalog.load(read["params:preprocess"]).every_nth_row
        if catalog.load(written["raw_log"]).every_nth_row != now:
            yield f"{_path(written['raw_log'], catalog)} is of other raw files or parameters"
    if "feature_map" in written and "params:preprocess" in read:
        then = catalog.load(written["feature_map"]).min_count
        now = catalog.load(read["params:preprocess"]).min_count
        if now != then:
            path = _path(written["feature_map"], catalog)
            yield f"{path} was made with preprocess.min_count {then}, now it is {now}"


def _older_than_its_inputs(node: Node, catalog: DataCatalog) -> Iterator[str]:
    """As make has it: what was written before what it is made of belongs to an earlier run."""
    for source, output in product(node.inputs, node.outputs):
        read, written = _path(source, catalog), _path(output, catalog)
        if read and written and changed_at(written) < changed_at(read):
            yield f"{written} is older than {read}, of which it is made"


def _without_namespace(name: str) -> str:
    """`x1.raw_rows` as `raw_rows`, `params:x1.log` as `params:log`."""
    kind, colon, own = name.rpartition(":")
    return kind + colon + own.rpartition(".")[2]


def _path(name: str, catalog: DataCatalog) -> AnyPath | None:
    """Where a dataset lies, if it does; a folder that is only named lies nowhere."""
    filepath = getattr(catalog.get(name), "_filepath", None)
    path = None if filepath is None else parse_path(str(filepath))
    return path if path is not None and is_whole(path) else None
