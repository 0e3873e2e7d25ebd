"""The processes of one run: the first leads, the others do their share of its rows."""
