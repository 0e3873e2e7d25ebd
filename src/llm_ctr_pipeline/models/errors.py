"""What is raised for a language model that cannot be the decoder."""

from llm_ctr_pipeline.data.errors import RefusedError


class UnsupportedModelError(RefusedError, NotImplementedError):
    """A language model that does something which the decoder does not reproduce."""
