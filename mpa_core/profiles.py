"""Entropy profiles of a codec: which arithmetic stands between bytes and symbols, and its identity.

``docs/reliability.md`` has the reasons, ``docs/spec/exact.md`` the arithmetic.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch

from mpa_core import hub
from mpa_core.arguments import as_choice
from mpa_core.base.exact.fixed import Format
from mpa_core.base.exact.formats import check_layers, choose_formats
from mpa_core.base.exact.networks import ExactNetworks
from mpa_core.base.networks import EntropyNetworks, FloatNetworks
from mpa_core.base.surroundings import making_weights
from mpa_core.bitstream.container import PROFILES
from mpa_core.fingerprint import fingerprint
from mpa_core.model import MPAModel

Profile = Literal["exact", "float"]
"""``exact``: any machine decodes the same. ``float``: the streams of the paper's code."""
NUMBERS: dict[str, int] = {name: number for number, name in PROFILES.items()}
FINGERPRINT_BYTES = 8
"""Length of a fingerprint in a file."""


class EntropyProfiles:
    """Networks and fingerprints of both profiles of a base.

    Args:
        model: with its final weights.
        name: of the base, for messages.
        formats: of the exact profile; None takes those that fit any input.

    Attributes:
        formats: of the exact profile, by layer.
        fingerprint: 64 hex digits of the base: paths, and files of the float profile, name it.
        exact_fingerprint: of the base and ``formats``: files of the exact profile name it.

    Raises:
        CheckpointError: ``formats`` are not for this base.
    """

    def __init__(self, model: MPAModel, name: str, formats: Mapping[str, Format] | None) -> None:
        if formats is None:
            formats = choose_formats(model.base)
        check_layers(model.base, formats, name)
        self.formats = dict(formats)
        tensors = model.frozen_state()
        self.fingerprint = fingerprint(tensors)
        self.exact_fingerprint = hub.exact_fingerprint(tensors, self.formats)
        self._base = model.base
        self._exact: ExactNetworks | None = None
        self._precise: MPAModel | None = None
        self._model = model
        self._building = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # A copy (pickled for another process, or deep) makes its own networks on first use.
        return {**self.__dict__, "_exact": None, "_precise": None, "_building": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._building = threading.Lock()

    def prefix(self, profile: Profile) -> bytes:
        """What the header of a file says of its origin."""
        whole = self.exact_fingerprint if profile == "exact" else self.fingerprint
        return bytes.fromhex(whole)[:FINGERPRINT_BYTES]

    def networks(self, profile: Profile) -> EntropyNetworks:
        """Those of ``profile``, where the base is; made on first use and kept.

        Raises:
            ConfigError: there is no such profile.
        """
        as_choice(profile, "profile", ("exact", "float"))
        if profile == "float":
            return FloatNetworks(self._base)
        with self._building:
            if self._exact is None:
                base = self._base
                # Some devices have no float64.
                if base.y_gains.gain.device.type == "mps":
                    base = copy.deepcopy(base).cpu()
                with torch.inference_mode(False), torch.no_grad():
                    self._exact = ExactNetworks(base, self.formats)
            return self._exact

    def precise(self) -> MPAModel:
        """A copy of the model in float64, made on first use and kept; for the encoder."""
        with self._building:
            if self._precise is None:
                with making_weights():
                    twin = MPAModel(self._model.config).eval()
                twin.base = copy.deepcopy(self._base)
                twin.encoder_path = copy.deepcopy(self._model.encoder_path)
                self._precise = twin.double()
            return self._precise

    def moved(self) -> None:
        """The base is on another device now."""
        self._exact = self._precise = None


def profile_of(number: int) -> Profile:
    """The profile with this number, which :func:`unpack` has checked."""
    return cast(Profile, PROFILES[number])
