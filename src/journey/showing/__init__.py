"""Instruction data as a model will see it: the examples that training makes of rows, and numbers about all of them."""
