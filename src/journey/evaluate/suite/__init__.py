"""A suite of one's own: prompts with checks, asked of a model, and HELM's views of what it answers."""
