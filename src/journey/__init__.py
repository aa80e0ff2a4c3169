"""Journey: a GPT-2-class model through its whole life, and what each stage changed."""

from journey.machine import share_cores

share_cores()
