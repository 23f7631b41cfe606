"""Settings of training runs: pydantic models, and YAML files on disk."""
