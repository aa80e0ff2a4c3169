"""Watching trainings: which there are, what their logs say, and how that is shown. It reads, and touches no run."""
