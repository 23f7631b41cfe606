"""TinyLIC with variable rate, the base codec of the paper, and all that only it has."""
