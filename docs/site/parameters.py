"""The page of every parameter, made of the pydantic models, their docstrings and `conf/base`."""

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotated_types import Ge
from griffe import Docstring, DocstringSectionKind
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines, settings
from pydantic import BaseModel, RootModel, TypeAdapter

from llm_ctr_pipeline.cli import types_of_settings
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings

PROJECT = Path(__file__).parents[2]
# The navigation beside it would leave the tables too narrow.
ABOVE = """---
hide: [navigation]
---
# Parameters

Every parameter of `conf/base`, as the program checks it: this page is made of its pydantic models.
A full name is the group's, a point and the parameter's: `--params training.epochs=3`.
[Settings](settings.md) says how to set them, what `auto` picks and what `--env avazu` sets
otherwise, and names `raw_dir`, `store` and `tracking`, which belong to no group;
[data sets](data_sets.md) explains how a log is described.
"""
# Before all others, which follow by name, with those that several groups share at the end.
FIRST = ("`training`", "`model`", "`llm`", "`llm.architecture`")
COLUMNS = ("parameter", "default", "type and bounds", "unit", "meaning")
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "minItems": "{} or more of them",
    "pattern": "matches `{}`",
}
LONGEST_DEFAULT = 60


@dataclass(frozen=True)
class Parameter:
    """A parameter of one group, or of several groups of the same type.

    Attributes:
        name: Below its group.
        defaults: Its value in `conf/base`, as JSON, by group.
        schema: What values it takes, as JSON Schema.
        meaning: From the field's description or its class's docstring.
    """

    name: str
    defaults: dict[str, Any]
    schema: dict[str, Any]
    meaning: str


def sections() -> dict[type[BaseModel], list[Parameter]]:
    """All parameters of `conf/base`, by the class that describes them."""
    configure_project("llm_ctr_pipeline")
    pipelines.set_requested(None)
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env="base", **settings.CONFIG_LOADER_ARGS)
    groups: dict[type[BaseModel], dict[str, BaseModel]] = {}
    for name, type_ in sorted(types_of_settings().items()):
        content = loader["parameters"]
        for part in name.split("."):
            content = content[part]
        for group, values in _groups(name, TypeAdapter(type_).validate_python(content)):
            groups.setdefault(type(values), {})[group] = values
    return {class_: [*_parameters(class_, values)] for class_, values in groups.items()}


def page() -> str:
    """The page, in Markdown: a section for each class, a line for each of its parameters."""
    lines = [ABOVE]
    for class_, parameters in sorted(sections().items(), key=lambda item: _place(item[1])):
        if parameters:
            summary = (inspect.getdoc(class_) or "").splitlines()[0]
            shared = "" if len(parameters[0].defaults) == 1 else f" In {_groups_of(parameters)}."
            summary = re.sub("^`params:.*?`: ", "", summary)
            summary = summary[:1].upper() + summary[1:]
            lines += ["", f"## {_title(parameters)}", "", summary + shared, ""]
            lines += [_line(COLUMNS), _line("---" for _ in COLUMNS), *map(_described, parameters)]
    return "\n".join([*lines, ""])


def _groups(name: str, value: Any) -> Iterator[tuple[str, BaseModel]]:
    """The groups of settings in a value, each with its full name."""
    if isinstance(value, RootModel):
        yield from _groups(name, value.root)
    elif isinstance(value, BaseModel):
        yield name, value
        for field in type(value).model_fields:
            if field != "archives":  # which nobody sets
                yield from _groups(f"{name}.{field}", getattr(value, field))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _groups(f"{name}.{key}", each)


def _parameters(class_: type[BaseModel], groups: dict[str, BaseModel]) -> Iterator[Parameter]:
    """The parameters of a class, but those that are groups themselves."""
    properties = class_.model_json_schema()["properties"] if class_.model_fields else {}
    told = _attributes(TrainingSettings if class_ is Stage else class_) | _attributes(class_)
    if class_ is Stage:
        told["epochs"] = _attributes(TrainingSettings)["epochs"]
    values = {group: each.model_dump(mode="json") for group, each in groups.items()}
    for name, field in class_.model_fields.items():
        if any(isinstance(getattr(each, name), BaseModel) for each in groups.values()):
            continue
        defaults = {group: each[name] for group, each in values.items()}
        schema = properties[name]
        lowest: list[Any] = [each.ge for each in field.metadata if isinstance(each, Ge)]
        if lowest:  # JSON Schema has the type's, also where a field narrows it
            schema["minimum"] = max(lowest)
        yield Parameter(name, defaults, schema, field.description or told.get(name, ""))


def _attributes(class_: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a class and of those above it say of its attributes."""
    told: dict[str, str] = {}
    for each in reversed(class_.__mro__):
        docstring = Docstring(inspect.cleandoc(each.__doc__ or ""))
        for section in docstring.parse("google", warnings=False):
            if section.kind is DocstringSectionKind.attributes:
                told |= {item.name: " ".join(item.description.split()) for item in section.value}
    return told


def _title(parameters: list[Parameter]) -> str:
    """The group's name; of several the shortest, or what they have in common."""
    names = [name.split(".") for name in parameters[0].defaults] if parameters else [[""]]
    shortest = min(names, key=len)
    if len({len(name) for name in names}) > 1:
        return f"`{'.'.join(shortest)}`"
    columns = [{*parts} for parts in zip(*names, strict=True)]
    return f"`{'.'.join(parts.pop() if len(parts) == 1 else '*' for parts in columns)}`"


def _place(parameters: list[Parameter]) -> tuple[bool, bool, str]:
    title = _title(parameters)
    return title not in FIRST, "*" in title, str(FIRST.index(title) if title in FIRST else title)


def _groups_of(parameters: list[Parameter]) -> str:
    return ", ".join(f"`{group}`" for group in parameters[0].defaults)


def _described(parameter: Parameter) -> str:
    kinds = parameter.schema.get("anyOf", [parameter.schema])
    values = dict.fromkeys(", ".join(filter(None, (_type(kind), _bounds(kind)))) for kind in kinds)
    units = dict.fromkeys(kind["unit"] for kind in kinds if "unit" in kind)
    defaults = _defaults(parameter.defaults)
    name, unit = f"`{parameter.name}`", ", ".join(units)
    return _line((name, defaults, "; or ".join(values), unit, parameter.meaning))


def _type(schema: dict[str, Any]) -> str:
    """A type in words, or the values that there are."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    names = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    names |= {"array": "list", "null": "none", "number": "number"}
    return names.get(schema.get("type", ""), "mapping")


def _bounds(schema: dict[str, Any]) -> str:
    found = [said.format(_number(schema[key])) for key, said in BOUNDS.items() if key in schema]
    inside = _bounds(schema["items"]) if "items" in schema and "$ref" not in schema["items"] else ""
    return ", ".join([*found, *([f"each {inside}"] if inside else [])])


def _number(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else str(bound)


def _defaults(defaults: dict[str, Any]) -> str:
    """The default; where groups differ the commonest, then the others with their groups."""
    by_value: dict[str, list[str]] = {}
    for group, value in defaults.items():
        by_value.setdefault(_value(value), []).append(group)
    usual, *others = sorted(by_value, key=lambda value: -len(by_value[value]))
    common = {part for group in defaults for part in group.split(".")}
    for group in defaults:
        common &= {*group.split(".")}
    said = [usual]
    for value in others:
        names = [
            " ".join(part for part in group.split(".") if part not in common) or group
            for group in by_value[value]
        ]
        said.append(f"{value} in {', '.join(names)}")
    return "; ".join(said)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_DEFAULT:
        return "in `conf/base`"
    return f"`{text}`" if text else "empty"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
