"""The process around a computation: its threads, defaults, modes and warnings."""
