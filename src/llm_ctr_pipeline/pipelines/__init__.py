"""The Kedro pipelines, one folder each: nodes.py (thin, pure) and pipeline.py (a list of nodes)."""
