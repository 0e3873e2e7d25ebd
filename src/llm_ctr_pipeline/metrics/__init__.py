"""Metrics over a whole split, their intervals, and the figures that show them."""
