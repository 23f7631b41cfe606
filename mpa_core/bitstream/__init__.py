"""The bitstream: the ``.mpa`` file (:mod:`.container`) and its range coder (:mod:`.rangecoder`).

Nothing is imported here, so that the container can be read without torch or numpy; the range coder
needs numpy.
"""
