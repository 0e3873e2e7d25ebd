"""The README and the pages below docs: short enough, and true of what they name."""

import re
from functools import cache
from pathlib import Path

import pytest
from kedro.framework.project import configure_project
from kedro.framework.project import pipelines as registered

from llm_ctr_pipeline.pipeline_registry import register_pipelines

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PAGES = [README, PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WORD = r"[a-z0-9]+(?:_[a-z0-9]+)*"

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@cache
def registered_names() -> tuple[set[str], set[str]]:
    """Return the names of pipelines and, without namespaces, those of nodes."""
    configure_project("llm_ctr_pipeline")
    registered.set_requested(None)
    pipelines = register_pipelines()
    nodes = {node.name.split(".")[-1] for each in pipelines.values() for node in each.nodes}
    return set(pipelines), nodes


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1_200


@pages
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pages
def test_modules_exist(page: Path) -> None:
    roots = (PROJECT, PROJECT / "src" / "llm_ctr_pipeline", page.parent)
    for path in re.findall(r"`([\w/]+\.py)`", page.read_text()):
        assert any((root / path).is_file() for root in roots), path


@pages
def test_commands_exist(page: Path) -> None:
    names, _ = registered_names()
    text = page.read_text()
    assert set(re.findall(rf"--pipeline=({WORD})", text)) <= names
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    blocks = "".join(block for _, block in BLOCK.findall(text))
    made = re.findall(r"`make (\w+)", text) + re.findall(r"^make (\w+)", blocks, re.MULTILINE)
    assert set(made) <= targets


def test_the_picture_shows_the_nodes_there_are() -> None:
    names, nodes = registered_names()
    picture = "".join(text for kind, text in BLOCK.findall(README.read_text()) if kind == "mermaid")
    words = set(re.findall(WORD, picture))
    assert nodes <= words
    assert {word for word in words if "_" in word} <= names | nodes
