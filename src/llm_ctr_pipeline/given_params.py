"""What `--params` gives: names that are settings, and values as they were typed.

Kedro cuts the text of `--params` at every comma and reads each value as YAML: ` #` begins a
comment, a colon makes a mapping, `no` is false and 2024 a number. Here a comma ends a value only
where `NAME=` follows, and a setting that holds text takes it as it stands.
"""

import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

import click
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, RootModel
from yaml import YAMLError  # type: ignore[import-untyped]

# Understood by the configuration although no parameter has the name.
PLACES = ("raw_dir", "x1_raw_dir", "x2_raw_dir", "store")
RUNTIME_ONLY = {**dict.fromkeys(PLACES, str), "mlflow_run_id": str, "tracking": bool}

_NEXT_SETTING = re.compile(r",\s*(?=[^\s,=]+=)")
# How YAML says that there is none.
_NONE = ("", "~", "null", "Null", "NULL")
_IN_A_FILE = "write it into conf/local/parameters.yml, in quotes"


def split(text: str) -> dict[str, str]:
    """Split the text of `--params` into settings and their values, as they were typed.

    Raises:
        click.ClickException: A part has no `=`.
    """
    given = {}
    for item in _NEXT_SETTING.split(text) if text.strip() else ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise click.ClickException(
                f"--params holds {item!r}, which is not NAME=VALUE: docs/settings.md lists the "
                "settings"
            )
        given[name.strip()] = value
    return given


def read(given: Mapping[str, str], types: Mapping[str, Any]) -> dict[str, Any]:
    """Read the values by the types of their settings, as a tree of groups.

    Args:
        given: What `split` returned.
        types: The types of groups of settings, by their full names. What is in none of them is
            read as YAML.

    Returns:
        The tree; with a pretrained language model it says that none is made of random weights.

    Raises:
        click.ClickException: A value cannot be read, or would not be what was typed.
    """
    tree = tree_of({**types, **RUNTIME_ONLY})
    values = OmegaConf.create()
    for name, text in given.items():
        try:
            OmegaConf.update(values, name, _value(text, _type_at(tree, name.split("."))))
        except (YAMLError, OmegaConfBaseException, ValueError) as error:
            said = " ".join(str(error).split())
            raise click.ClickException(
                f"--params: {name}={text} cannot be read ({said}): {_IN_A_FILE}"
            ) from error
    tree = dict(OmegaConf.to_container(values))  # type: ignore[arg-type]
    llm = tree.get("llm")
    if isinstance(llm, dict) and llm.get("pretrained") is not None:
        llm.setdefault("architecture", None)  # which the files may describe: it is one or the other
    return tree


def tree_of(types: Mapping[str, Any]) -> dict[str, Any]:
    """The types of groups by the parts of their names: `x1.log` is `log` in `x1`."""
    tree: dict[str, Any] = {}
    for group, type_ in types.items():
        *above, last = group.split(".")
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[last] = type_
    return tree


def below(type_: Any, names: Iterable[str] = ()) -> dict[str, Any]:
    """The settings or groups in a group, by name, with their types; none in a setting.

    Args:
        type_: A type, or a part of what `tree_of` returns.
        names: Those in use where names are free, as those of a path's stages are.
    """
    if isinstance(type_, dict):
        return type_
    found: dict[str, Any] = {}
    for member in _members(type_):
        if get_origin(member) is dict:
            found |= dict.fromkeys(names, get_args(member)[1])
        elif isinstance(member, type) and issubclass(member, RootModel):
            found |= below(member.model_fields["root"].annotation, names)
        elif isinstance(member, type) and issubclass(member, BaseModel):
            found |= {name: field.annotation for name, field in member.model_fields.items()}
    return found


def _type_at(type_: Any, names: list[str]) -> Any:
    """The type of the setting of this name in a group; None where there is no such."""
    for name in names:
        type_ = below(type_, [name]).get(name)
    return type_


def _members(type_: Any) -> tuple[Any, ...]:
    """The types that a union is of, without what they are annotated with."""
    if get_origin(type_) in (Union, UnionType):
        return tuple(each for member in get_args(type_) for each in _members(member))
    metadata = getattr(type_, "__metadata__", None)
    return (type_,) if metadata is None else _members(type_.__origin__)


def _value(text: str, type_: Any) -> Any:
    if "${" in text or text.strip() == "???":
        raise ValueError("${ and ??? stand for something else in the configuration")
    members = _members(type_)
    if str not in members:
        return _as_yaml(text)
    if type(None) in members and text.strip() in _NONE:
        return None
    if float in members and isinstance(_as_yaml(text), float | int):  # a file's name or a share
        return _as_yaml(text)
    return text


def _as_yaml(text: str) -> Any:
    read_value: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    return read_value["value"]
