"""Training runs as folders: jobs for bases and paths, weights, export."""
