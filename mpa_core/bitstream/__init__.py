"""The bitstream: the ``.mpa`` file (:mod:`.container`) and its range coder (:mod:`.rangecoder`).

Nothing is imported here: the container can be read without torch or numpy, the range coder cannot.
"""
