"""Inference: the key/value cache, sampling, and the engine that generates."""
