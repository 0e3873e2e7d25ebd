"""The house stays small: no long file or function, no full folder, no module without tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src" / "llm_ctr_pipeline"

LINES_OF_A_FILE = 400
STATEMENTS_OF_A_FUNCTION = 50
MODULES_OF_A_FOLDER = 12
# A module with fewer statements in its functions is thin: what uses it tests it.
STATEMENTS_OF_LOGIC = 15


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((PROJECT / folder).rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions and methods of a module; what stands inside a function belongs to it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            yield from functions(node)


def statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of statements below a function's head, those of inner functions included."""
    inner = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return inner - (ast.get_docstring(function) is not None)


def statements_of_functions(file: Path) -> dict[str, int]:
    tree = ast.parse(file.read_text())
    return {f"{found.name}:{found.lineno}": statements(found) for found in functions(tree)}


def mirrored(module: Path) -> Path:
    """The tests of a module of the package: those of a pipeline's nodes run the pipeline."""
    *folders, name = module.with_suffix("").parts
    if folders[:1] == ["pipelines"] and name == "nodes":
        name = folders.pop()
    return PROJECT.joinpath("tests", *folders, f"test_{name}.py")


def test_statements_are_counted_with_those_of_inner_functions() -> None:
    code = 'def f():\n    "Say."\n    def g():\n        return 1\n    if g(): x = 2\n    return x\n'
    (function,) = functions(ast.parse(code))
    assert statements(function) == 5


def test_a_modules_tests_are_at_the_mirrored_place() -> None:
    found = [mirrored(Path(name)) for name in ("a/b.py", "c.py", "pipelines/train/nodes.py")]
    names = [str(file.relative_to(PROJECT / "tests")) for file in found]
    assert names == ["a/test_b.py", "test_c.py", "pipelines/test_train.py"]


def test_no_file_is_long() -> None:
    files = python_files("src", "tests", "benchmarks")
    lengths = {str(file.relative_to(PROJECT)): len(file.read_text().splitlines()) for file in files}
    assert not {name for name, lines in lengths.items() if lines > LINES_OF_A_FILE}


def test_no_function_is_long() -> None:
    found = {
        f"{file.relative_to(SOURCE)}:{name}": count
        for file in python_files("src")
        for name, count in statements_of_functions(file).items()
        if count > STATEMENTS_OF_A_FUNCTION
    }
    assert not found


def test_no_folder_is_full() -> None:
    folders = {file.parent for file in python_files("src")}
    sizes = {str(folder.relative_to(SOURCE)): len([*folder.glob("*.py")]) for folder in folders}
    assert not {name for name, size in sizes.items() if size > MODULES_OF_A_FOLDER}


def test_each_module_of_logic_has_tests_at_the_mirrored_place() -> None:
    untested = {
        str(file.relative_to(SOURCE))
        for file in python_files("src")
        if file.name not in {"__init__.py", "pipeline.py"}
        and sum(statements_of_functions(file).values()) >= STATEMENTS_OF_LOGIC
        and not mirrored(file.relative_to(SOURCE)).exists()
    }
    assert not untested
