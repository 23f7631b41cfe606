"""Evaluation: measures, classic codecs to compare with, and tables and plots for ``mpa eval``."""
