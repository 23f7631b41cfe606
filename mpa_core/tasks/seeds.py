"""The random streams that derive from a run's seed, each with a number of its own.

Everything random follows from (seed, stream, key) alone: the order of the photos, their crops, the
noise of a step. All numbers that the SDK uses are in :class:`Stream`, below ``FIRST_FREE``; a
plugin takes any number from ``FIRST_FREE`` on, by :func:`plugin_generator`, so that its random
numbers are independent of those of training.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

FIRST_FREE = 32
"""Smallest stream number that a plugin may use; the SDK's own are below it."""


class Stream(IntEnum):
    """The uses of a run's seed.

    A number is never given to another use, as that would change runs.
    """

    ORDER = 0
    """Order of the items in an epoch; key: the epoch."""
    CROP = 1
    """Crop and orientation of a photo in stage 1; key: the place in the run."""
    QUALITY = 2
    """Quality of a picture; key: the step or the place."""
    NOISE = 3
    """All random numbers in the computation of a shard; key: the step, the shard."""
    PATH_CROP = 4
    """The fixed crops of a photo in stage 2; key: the index of the sample."""
    SHARE = 5
    """The share of a picture's tokens that a path takes; key: the step or the place."""
    DISCRIMINATOR = 6
    """Initial weights of the discriminator of stage 1b; no key."""
    SAMPLES = 7
    """Random numbers of a recipe's data set that draws anew at each step; key: the step, the
    shard."""


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Return NumPy's generator of one of the SDK's own streams.

    Args:
        seed: seed of the run, 0 or more.
        stream: the use of the numbers.
        key: identifies one generator of that stream, each number 0 or more; all keys of one stream
            have one length.
    """
    return np.random.default_rng((seed, int(stream), *key))


def torch_seed(seed: int, stream: Stream, *key: int) -> int:
    """Return torch's seed, in [0, 2**63), for one of the SDK's own streams.

    The arguments are those of :func:`generator`.
    """
    state = np.random.SeedSequence((seed, int(stream), *key)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def plugin_sequence(seed: int, number: int, *key: int) -> np.random.SeedSequence:
    """Return the seed sequence of a plugin's stream, from which any library can be seeded.

    Args:
        seed: seed of the run or of the recipe (``self.seed``), 0 or more.
        number: number of the stream, ``FIRST_FREE`` or more and below 2**32; a plugin gives each of
            its uses another one.
        key: identifies one sequence of that stream, such as the index of a sample; each number 0 or
            more.

    Raises:
        ValueError: the number is reserved for the SDK, or too large.
    """
    if not FIRST_FREE <= number < 2**32:
        raise ValueError(
            f"stream {number}: the numbers below {FIRST_FREE} are the SDK's own; take one from "
            f"{FIRST_FREE} to {2**32 - 1}"
        )
    return np.random.SeedSequence((seed, number, *key))


def plugin_generator(seed: int, number: int, *key: int) -> np.random.Generator:
    """Return NumPy's generator of a plugin's stream.

    Arguments and errors are those of :func:`plugin_sequence`.
    """
    return np.random.default_rng(plugin_sequence(seed, number, *key))
