"""Retrieval: the passages of a text in one local hybrid index (BM25 and vectors), and answers from what it finds."""
