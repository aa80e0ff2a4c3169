"""Journey: a GPT-2-class model through its whole life, and what each stage changed."""
