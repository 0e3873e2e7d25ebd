"""What MLflow is told, so that no run depends on MLflow's being there."""
