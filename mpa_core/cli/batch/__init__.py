"""The processing of many files in one command."""
