"""Where data lie and how they are written: paths, whole files, the engine."""
