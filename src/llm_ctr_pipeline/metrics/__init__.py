"""Metrics over a whole split, their intervals, and the differences between models."""
