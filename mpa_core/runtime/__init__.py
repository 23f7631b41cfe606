"""What stands around a computation: threads, defaults, modes and warnings of the process."""
