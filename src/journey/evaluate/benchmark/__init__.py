"""Benchmarks of papers: what they ask, how a model is asked, and what came of each item."""
