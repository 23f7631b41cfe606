"""Many files in one command."""
