"""Figures and tables that show what the metrics computed."""
