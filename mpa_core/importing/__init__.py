"""Import of the authors' released checkpoints as folders of the SDK."""
