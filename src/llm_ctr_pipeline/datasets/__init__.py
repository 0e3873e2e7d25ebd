"""Kedro datasets of our own, where no published one serves."""
