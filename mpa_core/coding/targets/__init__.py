"""A file of a wanted size or fidelity in place of a quality: what is asked, and the search."""
