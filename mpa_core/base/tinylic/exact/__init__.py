"""The exact entropy profile: the networks between bytes and symbols in reproducible arithmetic.

``docs/reliability.md`` has the argument, ``docs/spec/exact.md`` the arithmetic step by step.
"""
