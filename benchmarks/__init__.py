"""One module a question; each prints a table and writes JSON, and runs as `python -m`.

They need torch, transformers, lightning, numpy and pandas, neither Kedro nor MLflow.
"""
