"""Whether what earlier runs left may be kept by `--only-missing-outputs`.

Kedro looks at existence alone. What was made of other raw files, with other parameters, or
before a run that was cut off, exists too.
"""

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from llm_ctr_pipeline.data.raw.raw_log import describe_files
from llm_ctr_pipeline.data.storage.store_path import Place, changed_at, is_whole, place_of
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import RecodedLog
from llm_ctr_pipeline.data.synthetic.generated_log import GeneratedLog
from llm_ctr_pipeline.data.synthetic.manifest import read_manifest


def reason_to_redo(pipeline: Pipeline, catalog: DataCatalog) -> str | None:
    """Say why outputs that exist cannot be kept; None if all of them can."""
    for node in pipeline.nodes:
        reason = (
            _is_generated_anew(node, catalog)
            or _is_recoded_anew(node, catalog)
            or _is_of_another_log(node, catalog)
            or _is_older_than_its_inputs(node, catalog)
        )
        if reason is not None:
            return reason
    return None


def _is_generated_anew(node: Node, catalog: DataCatalog) -> str | None:
    """The generated log has other settings now, and Kedro passes over the node that names them."""
    if "params:generated_log" not in node.inputs or not catalog.exists("raw_log"):
        return None
    raw, settings = catalog.load("params:raw"), catalog.load("params:generated_log")
    folder = catalog.load("raw_folder")
    if settings is None or raw.source != "generated":
        return None
    manifest = read_manifest(folder, GeneratedLog)
    if manifest is None or manifest.log == GeneratedLog(settings=settings):
        return None
    return f"{folder} is to be generated with other settings"


def _is_recoded_anew(node: Node, catalog: DataCatalog) -> str | None:
    """A log is to be recoded with other settings now, into the folder that holds what was made."""
    if "params:recoding" not in node.inputs:
        return None
    for dataset, settings in catalog.load("params:recoding"):
        if catalog.load(f"params:{dataset}.raw").source != "recoded":
            continue
        folder = catalog.load(f"{dataset}.raw_folder")
        manifest = read_manifest(folder, RecodedLog)
        if manifest is not None and (manifest.log is None or manifest.log.settings != settings):
            return f"{folder} is to be recoded with other settings"
    return None


def _is_of_another_log(node: Node, catalog: DataCatalog) -> str | None:
    written = {_without_namespace(name): name for name in node.outputs if catalog.exists(name)}
    read = {_without_namespace(name): name for name in node.inputs}
    if "raw_rows" in written:
        folder, log = catalog.load(read["raw_folder"]), catalog.load(read["params:log"])
        then = catalog.load(written["raw_rows"]).manifest
        if not then.is_of(describe_files(folder, log)):
            return f"{_place(written['raw_rows'], catalog)} is of other raw files or parameters"
    if "raw_log" in written:
        then = catalog.load(written["raw_log"]).every_nth_row
        if catalog.load(read["params:preprocess"]).every_nth_row != then:
            return f"{_place(written['raw_log'], catalog)} is of other raw files or parameters"
    if "feature_map" in written and "params:preprocess" in read:
        then = catalog.load(written["feature_map"]).min_count
        now = catalog.load(read["params:preprocess"]).min_count
        if now != then:
            place = _place(written["feature_map"], catalog)
            return f"{place} was made with preprocess.min_count {then}, now it is {now}"
    return None


def _is_older_than_its_inputs(node: Node, catalog: DataCatalog) -> str | None:
    """As make has it: what was written before what it is made of belongs to an earlier run."""
    places = [place for name in node.outputs if (place := _place(name, catalog)) is not None]
    sources = [place for name in node.inputs if (place := _place(name, catalog)) is not None]
    for source in sources:
        for place in places:
            if changed_at(place) < changed_at(source):
                return f"{place} is older than {source}, of which it is made"
    return None


def _without_namespace(name: str) -> str:
    """`x1.raw_rows` as `raw_rows`, `params:x1.log` as `params:log`."""
    kind, colon, own = name.rpartition(":")
    return kind + colon + own.rpartition(".")[2]


def _place(name: str, catalog: DataCatalog) -> Place | None:
    """Where a dataset lies, if it does; a folder that is only named lies nowhere."""
    filepath = getattr(catalog.get(name), "_filepath", None)
    place = None if filepath is None else place_of(str(filepath))
    return place if place is not None and is_whole(place) else None
