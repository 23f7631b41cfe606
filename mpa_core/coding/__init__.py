"""From pictures to bytes and back: the model, entropy profiles, coded files."""
