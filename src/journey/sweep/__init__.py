"""A recipe for every combination of listed values, with several seeds, and what the values do to a measured number."""
