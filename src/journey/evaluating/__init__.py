"""What a person asks of nodes by name: measures, benchmarks, a suite, questions.

Nothing is imported here, for the command line reads `options` at its start and torch takes a second.
"""
