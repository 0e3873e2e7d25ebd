"""The documentation's site: every parameter explained, every page in place, no link that fails."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.project import settings

pytest.importorskip("griffe", reason='the site needs pip install -e ".[docs]"')
pytest.importorskip("zensical", reason='the site needs pip install -e ".[docs]"')

from docs.site import build, parameters

PROJECT = Path(__file__).parents[1]


def leaves(content: Any, name: str = "") -> Iterator[str]:
    """The full names of the settings in a group; lists are settings, no groups."""
    if isinstance(content, dict):
        for key, each in content.items():
            yield from leaves(each, f"{name}.{key}" if name else key)
    else:
        yield name


def test_every_parameter_is_there_with_its_default_and_a_meaning() -> None:
    found = [each for listed in parameters.sections().values() for each in listed]
    defaults = {
        f"{group}.{each.name}": each.defaults[group] for each in found for group in each.defaults
    }
    assert not [each.name for each in found if not each.meaning]
    loader = OmegaConfigLoader(
        str(PROJECT / "conf"),
        env="base",
        **settings.CONFIG_LOADER_ARGS,
    )
    names = {name for name in leaves(loader["parameters"]) if ".archives." not in name}
    assert len(names) > 200
    assert names <= defaults.keys()
    assert defaults["training.lr"] == loader["parameters"]["training"]["lr"]


def test_a_line_says_default_type_bounds_unit_and_meaning() -> None:
    lines = parameters.page().splitlines()
    assert (
        "| `patience` | `2` | whole number, ≥ 1, ≤ 1,000,000,000 | validations | Validations"
        in ("\n".join(lines))
    )
    assert [
        line for line in lines if line.startswith("| `vocab_size` | `512` | whole number, ≥ 258,")
    ]
    assert [
        line for line in lines if "`micro_batch_size` | none |" in line and "or none | rows" in line
    ]
    assert "## `*.stages.*`" in lines


def pages_of(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for part in (
        entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    ):
        yield from pages_of(part)


def test_the_navigation_has_every_page_once() -> None:
    toml = tomllib.loads((PROJECT / "docs" / "site" / "zensical.toml").read_text())
    listed = [*pages_of(toml["project"]["nav"])]
    written = {str(file.relative_to(PROJECT)) for file in (PROJECT / "docs").rglob("*.md")}
    records = {name for name in written if name.startswith("docs/decisions/")}
    made = {"docs/parameters.md", "docs/decisions/README.md"}
    outside = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    assert len(listed) == len({*listed})
    assert {*listed} == (written - records) | made | outside


def test_pages_lie_as_in_the_repository_with_the_files_they_link_to(tmp_path: Path) -> None:
    build.stage(tmp_path)
    pages = tmp_path / "pages"
    assert (pages / "docs" / "settings.md").read_text() == (
        PROJECT / "docs" / "settings.md"
    ).read_text()
    assert (pages / "benchmarks" / "study.py").is_file()
    assert "mermaid" not in (pages / "README.md").read_text()
    records = [*(PROJECT / "docs" / "decisions").glob("0*.md")]
    listed = (pages / "docs" / "decisions" / "README.md").read_text().count("](0")
    assert listed == len(records) > 0


@pytest.mark.slow
def test_the_site_builds_and_a_link_that_leads_nowhere_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build.stage(tmp_path)
    assert build.build(tmp_path) == 0
    assert "Embedding size D." in (tmp_path / "site" / "docs" / "api.html").read_text()
    page = tmp_path / "pages" / "docs" / "tutorial.md"
    page.write_text(page.read_text() + "\n[nowhere](settings.md#no-such-heading)\n")
    capfd.readouterr()
    assert build.build(tmp_path) != 0
    assert "anchor does not exist" in capfd.readouterr().err
