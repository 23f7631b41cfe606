"""Coding of pictures to bytes and back: the model, entropy profiles, coded files."""
