"""TinyLIC with variable rate: the base codec of the paper, and what only it has."""
