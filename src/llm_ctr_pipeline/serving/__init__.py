"""A trained model in use: from raw rows to click probabilities."""
