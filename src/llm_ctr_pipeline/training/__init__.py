"""Training with early stopping, scoring, and checkpoints."""
