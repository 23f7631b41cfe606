"""The ``mpa`` command. One module per group of commands; heavy imports happen when one runs."""
