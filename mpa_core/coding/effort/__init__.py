"""Effort: a search for better symbols, so that encoding takes longer and the file is better.

The analysis of a base gives latents in one pass. They are not the best ones for the picture at
hand; :func:`mpa_core.coding.effort.annealing.search` looks for better ones by gradients through the
frozen decoder. Neither the format nor any reader is concerned.
"""
