"""Corpora: where text comes from, how it is split, and the questions made from it."""
