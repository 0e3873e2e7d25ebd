"""The environments of published logs say what was published: settings, networks, sizes.

Source of all numbers: training logs in reczoo/BARS, `ranking/ctr/MODEL/MODEL_LOG/README.md`.
"""

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.config import OmegaConfigLoader

from llm_ctr_pipeline.models.baselines.description import describe_baseline
from llm_ctr_pipeline.models.settings import BaselineNetworkSettings, LlmCtrSettings
from llm_ctr_pipeline.settings import CONFIG_LOADER_ARGS
from llm_ctr_pipeline.training.settings import BaselineStages, Stages, TrainingSettings

PROJECT = Path(__file__).parents[1]
# With a log, D, the least count of a value, the L2 weight of embeddings and the rows of a step.
PROTOCOLS = {
    "frappe": ("frappe", 10, 1, 0.05, 4096),
    "movielens": ("movielens", 10, 1, 0.01, 4096),
    "criteo": ("criteo", 16, 10, 1e-5, 10_000),
    "avazu": ("x4", 16, 2, 0.0, 10_000),
    "avazu_x4_002": ("x4_002", 40, 1, 0.0, 10_000),
}
AVAZU = ("avazu", "avazu_x4_002")
AVAZU_ROWS = 32_343_172  # of training
# L2 weight where a model's is another than DeepFM's.
OWN_L2 = {
    ("frappe", "logistic_regression"): 1e-5,
    ("movielens", "logistic_regression"): 5e-6,
    ("criteo", "logistic_regression"): 1e-7,
    ("avazu", "logistic_regression"): 1e-8,
    ("avazu_x4_002", "logistic_regression"): 1e-8,
    ("avazu", "dcnv2"): 1e-9,
    ("avazu", "finalmlp"): 1e-9,
}
# What the number of weights does not tell: share of activations dropped, and heads.
NETWORKS = {
    ("frappe", "deepfm"): {"dropout": 0.2},
    ("frappe", "dcnv2"): {"dropout": 0.4, "structure": "parallel"},
    ("frappe", "finalmlp"): {"dropout": 0.4, "second_dropout": 0.4, "heads": 5},
    ("movielens", "deepfm"): {"dropout": 0.3},
    ("movielens", "dcnv2"): {"dropout": 0.2, "structure": "parallel"},
    ("movielens", "finalmlp"): {"dropout": 0.4, "second_dropout": 0.2, "heads": 10},
    ("criteo", "deepfm"): {"dropout": 0.2},
    ("criteo", "dcnv2"): {"dropout": 0.1, "structure": "parallel"},
    ("criteo", "finalmlp"): {"dropout": 0.2, "second_dropout": 0.1, "heads": 50},
    ("avazu", "deepfm"): {"dropout": 0.0},
    ("avazu", "dcnv2"): {"dropout": 0.0, "structure": "parallel"},
    ("avazu", "finalmlp"): {"dropout": 0.0, "second_dropout": 0.0, "heads": 20},
    ("avazu_x4_002", "deepfm"): {"dropout": 0.0, "hidden_sizes": [3000, 3000, 3000, 3000]},
}
# Fields, and ids of all of them together; FuxiCTR 2, whose FinalMLP (and Criteo's DCNv2) it is, has
# one id more in each field.
IDS = {
    "frappe": (10, 5_389),
    "movielens": (3, 90_239),
    "criteo": (39, 910_708),
    "avazu": (24, 3_750_975),
}
# "Total number of parameters", and how many more FuxiCTR has: ids, the second of two biases that
# are added up, and gates that embed user and item again.
WEIGHTS = {
    ("frappe", "logistic_regression"): (5_390, 0),
    ("frappe", "deepfm"): (423_280, 0),
    ("frappe", "dcnv2"): (458_391, 0),
    ("frappe", "finalmlp"): (253_392, 10 * 10 + 1 + 10 * (956 + 4084) - 2 * 10),
    ("movielens", "logistic_regression"): (90_240, 0),
    ("movielens", "deepfm"): (1_328_630, 0),
    ("movielens", "dcnv2"): (1_243_071, 0),
    ("movielens", "finalmlp"): (1_040_902, 3 * 10 + 1),
    ("criteo", "logistic_regression"): (910_709, 0),
    ("criteo", "dcnv2"): (20_382_577, 39 * 16),
    ("criteo", "finalmlp"): (19_524_954, 39 * 16 + 1),
    ("avazu", "deepfm"): (76_544_576, 0),
    ("avazu", "dcnv2"): (73_385_345, 0),
    ("avazu", "finalmlp"): (69_046_986, 24 * 16 + 1),
}


@cache
def load(env: str) -> dict[str, Any]:
    """Read the parameters of an environment, without what lies in conf/local."""
    settings = {**CONFIG_LOADER_ARGS, "default_run_env": "base"}
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env=env, **settings)
    content: dict[str, Any] = loader["parameters"]
    return content


def training_of(env: str, path: str) -> TrainingSettings:
    """The settings of the one stage of a path."""
    parameters = load(env)
    kind = BaselineStages if "network" in parameters[path] else Stages
    (stage,) = kind(parameters[path]["stages"]).root.values()
    return TrainingSettings(**parameters["training"]).of(stage)


@pytest.mark.parametrize("env", PROTOCOLS)
def test_the_protocol_is_the_published_one(env: str) -> None:
    parameters = load(env)
    fit = training_of(env, "deepfm")
    found = (
        *(parameters["log"]["dataset"], parameters["model"]["embedding_dim"]),
        *(parameters["preprocess"]["min_count"], fit.embedding_l2, fit.batch_size),
    )
    assert found == PROTOCOLS[env]


@pytest.mark.parametrize("path", ["logistic_regression", "deepfm", "dcnv2", "finalmlp"])
@pytest.mark.parametrize("env", PROTOCOLS)
def test_a_baseline_learns_as_published(env: str, path: str) -> None:
    fit = training_of(env, path)
    assert (fit.lr, fit.encoder_lr, fit.lr_factor, fit.lr_min) == (1e-3, 1e-3, 0.1, 1e-6)
    assert (fit.lr_schedule, fit.gradient_clip_norm, fit.weight_decay) == ("plateau", 10, 0)
    assert fit.early_stopping_metric == "auc"
    if (env, path) in WEIGHTS or (env, path) in OWN_L2:
        assert fit.embedding_l2 == OWN_L2.get((env, path), PROTOCOLS[env][3])
    if env not in AVAZU or path == "logistic_regression":
        assert (fit.epochs, fit.patience, fit.validate_every_steps) == (100, 2, None)


@pytest.mark.parametrize(
    ("path", "schedule", "validations"),
    [
        ("single_phase", "warmup_cosine", 10),
        ("hybrid", "warmup_cosine", 10),
        ("deepfm", "plateau", 5),
        ("dcnv2", "plateau", 5),
        ("finalmlp", "plateau", 5),
    ],
)
@pytest.mark.parametrize("env", AVAZU)
def test_avazu_is_learnt_in_one_epoch(env: str, path: str, schedule: str, validations: int) -> None:
    """The rate falls within it, and none of the validations within it can end it."""
    fit = training_of(env, path)
    assert (fit.epochs, fit.lr_schedule) == (1, schedule)
    assert fit.validate_every_steps is not None
    steps = math.ceil(AVAZU_ROWS / fit.batch_size)
    assert math.ceil(steps / fit.validate_every_steps) == validations < fit.patience
    assert schedule == "plateau" or fit.lr_warmup_steps < steps / 100


@pytest.mark.parametrize(("env", "path"), NETWORKS)
def test_a_network_is_the_published_one(env: str, path: str) -> None:
    network = load(env)[path]["network"]
    assert {name: network[name] for name in NETWORKS[env, path]} == NETWORKS[env, path]
    if path == "deepfm":
        assert network["gen"] is False
        terms = load(env)["hybrid"]["terms"]
        assert {name: terms[name] for name in network if name != "model"} == {
            name: value for name, value in network.items() if name != "model"
        }


@pytest.mark.parametrize("env", ["base", "movielens_100k", *PROTOCOLS])
def test_a_distilled_model_is_trained_as_deepfm_is(env: str) -> None:
    parameters = load(env)
    assert parameters["distilled"]["stages"] == parameters["deepfm"]["stages"]


@pytest.mark.parametrize(("env", "path"), WEIGHTS)
def test_a_network_has_the_published_number_of_weights(env: str, path: str) -> None:
    parameters = load(env)
    fields, ids = IDS[env]
    description = describe_baseline(
        LlmCtrSettings(**parameters["model"]),
        BaselineNetworkSettings(**parameters[path]["network"]).root,
        (ids - fields + 1, *[1] * (fields - 1)),
    )
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in description.build().parameters())
    published, more = WEIGHTS[env, path]
    assert weights == published - more


def test_the_page_has_the_published_results_of_the_environments() -> None:
    page = (PROJECT / "docs" / "data_sets.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (0\.\d{4}) \|", page, re.MULTILINE)
    assert {env for env, _, _ in rows} == set(PROTOCOLS)
    for env, path, auc in rows:
        file = (PROJECT / "conf" / env / "parameters.yml").read_text()
        assert re.search(rf"{auc}.*\n?{path}:|^{path}:.*{auc}", file, re.MULTILINE), (env, path)
