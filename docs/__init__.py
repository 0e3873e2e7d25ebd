"""The documentation and what its site is made by."""
