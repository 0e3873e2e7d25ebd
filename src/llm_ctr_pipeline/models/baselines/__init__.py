"""Plain CTR models that a decoder is compared with."""
