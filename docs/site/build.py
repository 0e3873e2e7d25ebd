"""`make docs`: the pages of the repository, and those made of its code, as a site in `site/`.

The site's pages lie as the repository's files do, so that a link leads to the same page on both.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import parameters

PROJECT = Path(__file__).parents[2]
MERMAID = re.compile(r"^```mermaid\n.*?^```\n+", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
FOLDER = re.compile(r"(\]\((?:docs/)?decisions)\)")
LINK = re.compile(r"\]\(([^)\s#]+)")


def stage(root: Path) -> None:
    """Write what the site is built of: its configuration, all pages, and the files they link to.

    Args:
        root: An empty folder, or none yet.
    """
    made = {
        PROJECT / "docs" / "parameters.md": parameters.page(),
        PROJECT / "docs" / "decisions" / "README.md": _list_of_decisions(),
    }
    waiting = [PROJECT / "README.md", *made, *sorted((PROJECT / "docs").rglob("*.md"))]
    staged: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in staged:
            continue
        staged.add(file)
        copy = root / "pages" / file.relative_to(PROJECT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".md":
            shutil.copy(file, copy)
            continue
        text = made.get(file) or _as_page(file.read_text())
        copy.write_text(text)
        waiting += _linked_files(file, text)
    shutil.copy(Path(__file__).with_name("zensical.toml"), root)
    shutil.copy(Path(__file__).with_name("tables.css"), root / "pages")


def _as_page(text: str) -> str:
    """A page as it stands on the site.

    A folder has a page of its own there, and the README's diagrams, for which a browser would load
    Mermaid from the network, are left out.
    """
    return FOLDER.sub(r"\1/README.md)", MERMAID.sub("", text))


def _linked_files(page: Path, text: str) -> list[Path]:
    targets = LINK.findall(CODE.sub("", text))
    files = [(page.parent / target).resolve() for target in targets if ":" not in target]
    return [file for file in files if file.is_file()]


def _list_of_decisions() -> str:
    lines = ["# Decisions", "", "What was decided and why, what else was tried, with numbers.", ""]
    for record in sorted((PROJECT / "docs" / "decisions").glob("[0-9]*.md")):
        number, _, title = record.read_text().splitlines()[0].lstrip("# ").partition(". ")
        lines.append(f"- {number}: [{title}]({record.name})")
    return "\n".join([*lines, ""])


def build(root: Path) -> int:
    """Build the site of what `stage` wrote, into `site` beside it.

    Args:
        root: The folder.

    Returns:
        The exit status: warnings, among them links that lead nowhere, are errors.
    """
    zensical = (sys.executable, "-m", "zensical")
    command = [*zensical, "build", "--strict", "--config-file", str(root / "zensical.toml")]
    return subprocess.run(command, check=False).returncode  # noqa: S603


def main() -> int:
    """Build the site into the project's `site`.

    Returns:
        The exit status.
    """
    root = PROJECT / "build" / "docs"
    shutil.rmtree(root, ignore_errors=True)
    stage(root)
    status = build(root)
    if status == 0:
        shutil.rmtree(PROJECT / "site", ignore_errors=True)
        (root / "site").rename(PROJECT / "site")
        print("The site is in site/: open site/index.html")  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
