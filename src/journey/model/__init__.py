"""The GPT: its shape, its layers, and the Hugging Face folder that it is saved in."""
