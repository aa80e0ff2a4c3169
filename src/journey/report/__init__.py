"""Blocks, and the one self-contained page that is made of them."""
