# What a developer calls; CONTRIBUTING.md says when.
PYTHON ?= .venv/bin/python

.PHONY: fast check lock bench

# All but the slow tests: about two minutes on two cores.
fast:
	./journey test -m "not slow"

# All that a change must pass, layout, types and imports among it.
check:
	./journey test

# After a change of what a stage or a measure computes: versions.lock anew.
lock:
	PYTHONPATH=src $(PYTHON) -m tests.lock

# The speeds that need no data; the rest of benchmarks/ says at its head what it needs. For a quiet machine.
bench:
	$(PYTHON) benchmarks/contention.py
	$(PYTHON) benchmarks/training_step.py
	$(PYTHON) benchmarks/sft_loss.py
	$(PYTHON) benchmarks/pocket.py
