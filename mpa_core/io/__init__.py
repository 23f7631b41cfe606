"""Reading and writing of files and folders, pictures and their metadata."""
