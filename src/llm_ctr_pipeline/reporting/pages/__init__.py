"""Pages for a browser: a figure each, and the reports of a training, a test and a comparison."""
