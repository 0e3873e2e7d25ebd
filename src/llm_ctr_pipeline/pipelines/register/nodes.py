"""What registering a trained model does."""

import logging

import mlflow

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.params import RegisterParams
from llm_ctr_pipeline.pipelines.lazy_types import Checkpoint
from llm_ctr_pipeline.tracking.logged_model import find_logged

logger = logging.getLogger(__name__)


def register(checkpoint: Checkpoint, settings: RegisterParams) -> None:
    """Make the model that training logged a version of a registered one.

    Raises:
        SettingsError: No name is given, or MLflow holds no model of this checkpoint.
    """
    from llm_ctr_pipeline.training.checkpoint import WEIGHTS

    if settings.name is None:
        raise SettingsError("register.name is not set: name the registered model")
    logged = find_logged(checkpoint.files[WEIGHTS])
    if logged is None:
        raise SettingsError(
            f"MLflow at {mlflow.get_tracking_uri()} holds no model of {settings.path}'s "
            "checkpoint: it was trained without tracking, or with another server"
        )
    version = mlflow.register_model(f"models:/{logged.model_id}", settings.name).version
    if settings.alias is not None:
        mlflow.MlflowClient().set_registered_model_alias(settings.name, settings.alias, version)
    place = f"models:/{settings.name}" + (f"@{settings.alias}" if settings.alias else f"/{version}")
    logger.info(
        f"Registered as version {version}: mlflow models serve -m {place} --env-manager local "
        "--host 127.0.0.1"
    )
