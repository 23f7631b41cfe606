"""Metrics, classic codecs to compare with, and what ``mpa eval`` does with them."""
