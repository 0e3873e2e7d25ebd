"""Where data lie and how they are written: places, whole files, the engine."""
