"""The ``mpa`` command, one module per group of commands; heavy imports happen when one runs."""
