"""The checks, each a function of a :class:`mpa_core.testing.PathUnderTest` that raises or returns.

:mod:`mpa_core.testing.check` lists them.
"""
