"""Files and folders, pictures and their metadata."""
