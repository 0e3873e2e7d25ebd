"""Every setting against values that nobody means: taken where they mean something, else refused."""

import copy
import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines, settings
from pydantic import TypeAdapter, ValidationError

from llm_ctr_pipeline.cli import types_of_settings
from llm_ctr_pipeline.given_params import below
from llm_ctr_pipeline.hooks.preflight import _fault
from llm_ctr_pipeline.models.settings import BaselineNetworkSettings

PROJECT = Path(__file__).parents[1]
EXTREMES: dict[str, Any] = {
    **{"0": 0, "-1": -1, "1e9": 1e9, "1e30": 1e30, "inf": math.inf, "nan": math.nan},
    **{"true": True, "empty": "", "long": "x" * 10**5, "null": None, "list": []},
}
# What each setting takes of these; all others are refused. Stages, logs and tests of several
# paths and data sets have the same settings.
TAKEN = {
    "compare.baseline": "",
    "compare.dataset": "",
    "compare.paths": "",
    "compare.runs": "empty",  # none
    "compare.seeds": "1e9",
    "compare.split": "",
    "distilled.teacher.path": "",
    "distilled.teacher.temperature": "",
    "distilled.teacher.weight": "0",  # the labels alone
    "download.datasets": "",
    "download.endpoint": "null",
    "evaluation.dataset": "",
    "evaluation.group_by": "null",
    "evaluation.model": "",
    "evaluation.path": "",
    "evaluation.serving_precision": "null",
    "evaluation.split": "",
    "export.model": "",
    "export.path": "",
    "export.to": "",
    "generated_log.click_rate": "",
    "generated_log.seed": "0 1e9",
    "generated_log.test_rows": "1e9",  # if the memory holds them
    "generated_log.train_rows": "1e9",
    "generated_log.valid_rows": "1e9",
    "llm.architecture.head_dim": "",
    "llm.architecture.hidden_size": "",
    "llm.architecture.intermediate_size": "",
    "llm.architecture.model_type": "",
    "llm.architecture.num_attention_heads": "",
    "llm.architecture.num_hidden_layers": "",
    "llm.architecture.num_key_value_heads": "",
    "llm.architecture.tie_word_embeddings": "0 true",
    "llm.architecture.vocab_size": "",
    "llm.attention": "",
    "llm.freeze": "0 true",
    "llm.pretrained": "null",
    "log.codes": "list",
    "log.columns": "null",
    "log.dataset": "",
    "log.delimiter": "",
    "log.fields": "",
    "log.ignored": "list",
    "log.label": "long",
    "log.splits.by": "",
    "log.splits.seed": "0 1e9",
    "log.splits.test": "",
    "log.splits.train": "",
    "log.splits.valid": "",
    "log.times": "",
    "model.embedding_beside_gen": "0 true",
    "model.embedding_dim": "",
    "model.embedding_dropout": "0",
    "model.embedding_init_std": "",
    "model.field_vectors": "0 true",
    "model.gen_gamma": "",
    "model.projector_dim": "",
    "model.projector_dropout": "0",
    "model.projector_per_field": "0 true",
    "model.prompt": "",
    "model.prompt_suffix": "empty",
    "model.token_dropout": "0",
    "network.batch_norm": "0 true",
    "network.cross_layers": "",
    "network.dropout": "0",
    "network.gate_hidden_sizes": "list",  # a linear gate
    "network.gating": "0 true",
    "network.gen": "0 true",
    "network.heads": "",
    "network.hidden_sizes": "",
    "network.model": "",
    "network.second_batch_norm": "0 true",
    "network.second_dropout": "0",
    "network.second_hidden_sizes": "",
    "network.structure": "",
    "predict.input": "null",
    "predict.keep": "empty",
    "predict.model": "",
    "predict.on_bad_row": "null",
    "predict.path": "",
    "preprocess.every_nth_row": "1e9",  # the first row alone
    "preprocess.min_count": "1e9",  # all values are rare
    "raw.source": "",
    "recoding.seed": "0 1e9",
    "recoding.test_share": "",
    "recoding.valid_share": "0",
    "register.alias": "null",
    "register.name": "null",
    "register.path": "",
    "stages.batch_size": "null",
    "stages.components": "null",
    "stages.datasets": "",
    "stages.early_stopping_metric": "null",
    "stages.embedding_l2": "0 null",
    "stages.encoder_lr": "null",
    "stages.epochs": "1e9 null",
    "stages.gradient_clip_norm": "1e9 null",
    "stages.id_dropout": "0 null",
    "stages.label_smoothing": "0 null",
    "stages.lr": "null",
    "stages.lr_factor": "null",
    "stages.lr_min": "0 null",
    "stages.lr_schedule": "null",
    "stages.lr_warmup_steps": "0 1e9 null",
    "stages.patience": "1e9 null",
    "stages.redraw_embeddings": "0 true null",
    "stages.start": "",
    "stages.validate_every_steps": "1e9 null",
    "stages.weight_decay": "0 null",
    "terms.batch_norm": "0 true",
    "terms.dropout": "0",
    "terms.gen": "0 true",
    "terms.hidden_sizes": "",
    "terms.kind": "",
    "training.activation_checkpointing": "true",  # as YAML reads on
    "training.batch_size": "",
    "training.compile": "",
    "training.cpu_threads": "null",
    "training.deterministic": "0 true",
    "training.device": "",
    "training.early_stopping_metric": "",
    "training.embedding_l2": "0",
    "training.encoder_lr": "",
    "training.epochs": "1e9",
    "training.eval_batch_size": "",
    "training.float32_matmul": "",
    "training.gradient_clip_norm": "1e9 null",
    "training.id_dropout": "0",
    "training.keep_state_every": "0 1e9",
    "training.keep_state_every_minutes": "1e9 null",
    "training.keep_state_every_steps": "1e9 null",
    "training.label_smoothing": "0",
    "training.lr": "",
    "training.lr_factor": "",
    "training.lr_min": "0",
    "training.lr_schedule": "",
    "training.lr_warmup_steps": "0 1e9",
    "training.micro_batch_size": "null",
    "training.patience": "1e9",
    "training.precision": "",
    "training.redraw_embeddings": "0 true",
    "training.resume": "0 true",
    "training.rows_in": "",
    "training.seed": "0 1e9",
    "training.strategy": "",
    "training.stream_buffer_rows": "1e9",
    "training.validate_every_steps": "1e9 null",
    "training.weight_decay": "0",
}
_IN_SEVERAL = {
    r"^.*\b(evaluation|network|terms|log|raw)\b": r"\1",
    r"^.*\bstages\.\w+": "stages",
    r"^recoding\.\w+": "recoding",
}


def common(name: str) -> str:
    """A setting's name without what it stands in."""
    for pattern, short in _IN_SEVERAL.items():
        name = re.sub(pattern, short, name)
    return name


@cache
def groups() -> dict[str, tuple[Any, Any]]:
    """Of each group of settings in conf/base, its type and its content."""
    configure_project("llm_ctr_pipeline")
    pipelines.set_requested(None)
    files = OmegaConfigLoader(str(PROJECT / "conf"), env="base", **settings.CONFIG_LOADER_ARGS)
    found = {}
    for group, type_ in types_of_settings().items():
        content = files["parameters"]
        for part in group.split("."):
            content = content[part]
        # Of several models' settings a path's network has those of one.
        one = type(type_.model_validate(content).root) if type_ is BaselineNetworkSettings else None
        found[group] = (one or type_, content)
    return found


def settings_in(type_: Any, content: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inside = below(type_, content if isinstance(content, dict) else ())
    if not inside:
        yield above
    for name, each in inside.items():
        if name != "archives":  # which nobody sets
            part = content.get(name) if isinstance(content, dict) else None
            yield from settings_in(each, part, (*above, name))


def taken_and_said(group: str, names: tuple[str, ...]) -> tuple[set[str], list[str]]:
    """Which extremes a setting takes, and what is said of the others."""
    type_, content = groups()[group]
    taken, said = set(), []
    for extreme, value in EXTREMES.items():
        changed = holder = copy.deepcopy(content)
        for name in names[:-1]:
            holder = holder[name]
        holder[names[-1]] = value
        try:
            TypeAdapter(type_).validate_python(changed)
        except ValidationError as error:
            said += [_fault(group, details) for details in error.errors()]
        else:
            taken.add(extreme)
    return taken, said


@pytest.mark.parametrize("group", sorted(groups().keys() - {"x1.log", "x2.log"}))
def test_every_setting_takes_what_means_something_and_refuses_the_rest(group: str) -> None:
    for names in settings_in(*groups()[group]):
        name = ".".join((group, *names))
        taken, said = taken_and_said(group, names)
        assert taken == set(TAKEN[common(name)].split()), name
        for line in said:
            assert "\n" not in line, name
            assert len(line) < 300, name


def test_every_setting_of_the_page_is_among_them() -> None:
    page = (PROJECT / "docs" / "settings.md").read_text()
    found = set(re.findall(r"`([a-z_0-9]+(?:\.[a-z_0-9]+)+)`", page))
    known = {
        ".".join((group, *names))
        for group, described in groups().items()
        for names in settings_in(*described)
    }
    assert len(found) > 30
    assert found - {"torch.compile"} <= known
    assert {common(name) for name in known} == TAKEN.keys()


@pytest.mark.parametrize(
    ("group", "changes", "said"),
    [
        ("training", {"seed": 2**63}, "less than or equal to 9223372036854775807"),
        ("training", {"cpu_threads": 3000}, "less than or equal to 1024"),
        ("model", {"embedding_init_std": 1e-400}, "greater than 0"),
        ("log", {"codes": [{"column": "hour", "part": "hour", "offset": 2**70}]}, "offset"),
        ("log", {"fields": [{"name": "C1", "kind": "numeric", "edges": [math.inf]}]}, "finite"),
        ("llm", {"pretrained": "", "architecture": None}, "at least 1 character"),
        ("deepfm.network", {"hidden_sizes": [10**9]}, "less than or equal to 1048576"),
        ("deepfm.network", {"hidden_sizes": [True]}, "true and false are none"),
    ],
)
def test_what_is_beyond_is_refused(group: str, changes: dict[str, Any], said: str) -> None:
    type_, content = groups()[group]
    with pytest.raises(ValidationError, match=re.escape(said)):
        TypeAdapter(type_).validate_python({**content, **changes})


def test_heads_that_do_not_share_evenly_are_refused() -> None:
    type_, content = groups()["llm"]
    architecture = content["architecture"] | {"num_attention_heads": 3, "num_key_value_heads": 2}
    with pytest.raises(ValidationError, match="num_attention_heads is 3, no multiple of"):
        TypeAdapter(type_).validate_python({**content, "architecture": architecture})
