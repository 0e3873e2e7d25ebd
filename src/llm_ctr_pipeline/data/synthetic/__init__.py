"""Logs made here: the generated log, and x1 and x2 made of a log."""
