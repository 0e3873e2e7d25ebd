"""Whether what earlier runs left may be kept by `--only-missing-outputs`.

Kedro looks at existence alone. What was made of other raw files, with other parameters, or
before a run that was cut off, exists too.
"""

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from llm_ctr_pipeline.data.raw.raw_log import made_of
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
    """The generated log has other settings now: Kedro passes over the node that writes it."""
    if "params:generated_log" not in node.inputs or not catalog.exists("raw_log"):
        return None
    raw_folder, generated_folder, settings = (catalog.load(name) for name in node.inputs)
    if settings is None or raw_folder.path != generated_folder:
        return None
    manifest = read_manifest(generated_folder, GeneratedLog)
    if manifest is None or manifest.log == GeneratedLog(settings=settings):
        return None
    return f"{generated_folder} is to be generated with other settings"


def _is_recoded_anew(node: Node, catalog: DataCatalog) -> str | None:
    """A log is to be recoded with other settings now, into the folder that holds what was made."""
    if "params:recoding" not in node.inputs:
        return None
    folder, recodings = catalog.load("recoded_log_folder"), catalog.load("params:recoding")
    for dataset, settings in recodings:
        if catalog.load(f"{dataset}.raw_folder").path != folder / dataset:
            continue
        manifest = read_manifest(folder / dataset, RecodedLog)
        if manifest is not None and (manifest.log is None or manifest.log.settings != settings):
            return f"{folder / dataset} is to be recoded with other settings"
    return None


def _is_of_another_log(node: Node, catalog: DataCatalog) -> str | None:
    written = {name.rpartition(".")[2]: name for name in node.outputs}
    if "raw_log" in written and catalog.exists(written["raw_log"]):
        folder, log, preprocess = (catalog.load(name) for name in node.inputs[1:])
        now = made_of(folder, log.to_schema(), preprocess.every_nth_row)
        then = catalog.load(written["raw_log"]).get("made_of")
        if now != then:
            return f"{_place(written['raw_log'], catalog)} is of other raw files or parameters"
    if "feature_map" in written and catalog.exists(written["feature_map"]):
        then = catalog.load(written["feature_map"])["min_count"]
        for name in node.inputs:
            now = getattr(catalog.load(name), "min_count", then) if "params:" in name else then
            if now != then:
                place = _place(written["feature_map"], catalog)
                return f"{place} was made with preprocess.min_count {then}, now it is {now}"
    return None


def _is_older_than_its_inputs(node: Node, catalog: DataCatalog) -> str | None:
    """As make has it: what was written before what it is made of belongs to an earlier run."""
    places = [place for name in node.outputs if (place := _place(name, catalog)) is not None]
    sources = [
        place
        for name in node.inputs
        if not _is_raw(name, catalog) and (place := _place(name, catalog)) is not None
    ]
    for source in sources:
        for place in places:
            if changed_at(place) < changed_at(source):
                return f"{place} is older than {source}, of which it is made"
    return None


def _is_raw(name: str, catalog: DataCatalog) -> bool:
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    return bool(metadata.get("kedro-viz", {}).get("layer") == "raw")


def _place(name: str, catalog: DataCatalog) -> Place | None:
    """Where a dataset lies, if it does."""
    filepath = getattr(catalog.get(name), "_filepath", None)
    place = None if filepath is None else place_of(str(filepath))
    return place if place is not None and is_whole(place) else None
