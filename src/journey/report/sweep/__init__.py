"""What a sweep found: one HTML page, one figure for a document, and a table for the terminal."""

from journey.report.sweep.lines import lines
from journey.report.sweep.page import figure, page

__all__ = ["figure", "lines", "page"]
