"""Training of base codecs (stages 1a and 1b) and of task paths (stage 2), on one engine."""
