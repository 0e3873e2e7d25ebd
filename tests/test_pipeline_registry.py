from pathlib import Path

import pytest
from kedro.framework.project import configure_project
from kedro.framework.project import pipelines as registered
from kedro.pipeline.preview_contract import MermaidPreview, TextPreview

from llm_ctr_pipeline.pipeline_registry import register_pipelines
from llm_ctr_pipeline.pipelines.compare.pipeline import compared_paths


def test_every_node_says_in_a_line_what_it_does() -> None:
    configure_project("llm_ctr_pipeline")
    registered.set_requested(None)
    shown = {
        node.name: node.preview()
        for pipeline in register_pipelines().values()
        for node in pipeline.nodes
    }
    assert isinstance(shown.pop("compare"), MermaidPreview)
    for name, preview in shown.items():
        assert isinstance(preview, TextPreview), name
        assert preview.content.endswith("."), name


def test_compare_draws_the_paths_that_were_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("single_phase", "deepfm", "compare"):
        (tmp_path / "data/08_reporting" / path).mkdir(parents=True)
    assert compared_paths().content.splitlines() == [
        "flowchart LR",
        "  deepfm --> compare",
        "  single_phase --> compare",
    ]
