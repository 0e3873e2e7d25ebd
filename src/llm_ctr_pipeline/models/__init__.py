"""The model: embedding, GEN encoder, projector, language model over a shared prompt prefix."""
