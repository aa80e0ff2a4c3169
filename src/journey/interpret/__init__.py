"""What happens inside a model: what its attention heads do, and what changed between two checkpoints."""
