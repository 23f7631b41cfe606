"""The authors' released checkpoints, as folders of the SDK."""
