"""Validation of the averaged weights during a run."""
