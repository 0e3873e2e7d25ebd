"""Encoded rows on their way into a model."""
