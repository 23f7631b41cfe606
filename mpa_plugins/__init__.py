"""First-party task paths, one package each, registered by entry point as a third party's are."""
