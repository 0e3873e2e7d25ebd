"""Which language models are taken: of whole files, and of an architecture computed exactly."""
