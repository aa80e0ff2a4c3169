"""How a text was written, looked at from inside: each pass over the model, and what the engine's means save."""
