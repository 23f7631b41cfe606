"""The training engine: trainer, loop, state, schedules and processes, for any objective."""
