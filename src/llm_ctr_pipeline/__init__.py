"""Train and compare click-through-rate models with a language model as the decoder."""

__version__ = "0.1.0"
