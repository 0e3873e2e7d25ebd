"""What happens around a run: checks before it, MLflow beside it, a summary after it."""
