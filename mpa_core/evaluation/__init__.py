"""Measuring codecs: distortion metrics and the classic codecs to compare with."""
