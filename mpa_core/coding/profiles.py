"""Entropy profiles of a codec: which arithmetic stands between bytes and symbols, and its identity.

``docs/reliability.md`` has the reasons, ``docs/spec/exact.md`` the arithmetic.
"""

from __future__ import annotations

import copy
import threading
from typing import Any, Literal, cast

from mpa_core import checkpoints
from mpa_core.arguments import as_choice
from mpa_core.base.api import needs
from mpa_core.base.capabilities import ExactProfile, Formats
from mpa_core.base.networks import EntropyNetworks
from mpa_core.bitstream.container import PROFILES
from mpa_core.checkpoints.fingerprint import fingerprint
from mpa_core.coding.model import MPAModel
from mpa_core.coding.seal import Seal, in_training
from mpa_core.config import BaseConfig
from mpa_core.errors import ModelChangedError
from mpa_core.runtime.normal_tensors import normal_tensors
from mpa_core.runtime.surroundings import making_weights

Profile = Literal["exact", "float"]
"""``exact``: any machine decodes the same. ``float``: the streams of the paper's code."""
NUMBERS: dict[str, int] = {name: number for number, name in PROFILES.items()}
FINGERPRINT_BYTES = 8
"""Length of a fingerprint in a file."""


class EntropyProfiles:
    """Networks and fingerprints of both profiles of a base, and whether they are still true.

    Args:
        model: with its final weights, float32, and CDF tables.
        name: of the base, for messages.
        formats: of the exact profile; None takes those that fit any input, if there is the profile.
        fingerprints: of the base and of the exact profile, from whoever has just computed them of
            these very tensors and formats; None stands for one that is not known.

    Attributes:
        formats: of the exact profile, by layer; None where the base has no exact profile.
        fingerprint: 64 hex digits of the base: paths, and files of the float profile, name it.
        exact_fingerprint: of the base and ``formats``: files of the exact profile name it;
            None where the base has no exact profile.

    Raises:
        ConfigError: ``formats`` are for an exact profile, which the base does not have.
        CheckpointError: ``formats`` are not for this base, or the model has no CDF tables or
            tensors of a type that no base has.
    """

    def __init__(
        self,
        model: MPAModel,
        name: str,
        formats: Formats | None,
        fingerprints: tuple[str | None, str | None] = (None, None),
    ) -> None:
        tensors = model.frozen_state()
        self.fingerprint = fingerprints[0] or fingerprint(tensors)
        model.base.entropy.forget_tables()
        _ = model.base.entropy.tables  # a model without any cannot code
        self.formats: dict[str, Any] | None = None
        self.exact_fingerprint: str | None = None
        if formats is not None or model.base.capabilities.exact is not None:
            exact = exact_profile(model)
            formats = exact.choose_formats() if formats is None else formats
            exact.check(formats, name)
            self.formats = dict(formats)
            self.exact_fingerprint = fingerprints[1] or checkpoints.exact_fingerprint(
                tensors, exact.to_tensors(self.formats)
            )
        self.name = name
        self._seal = Seal(model.sealed_parts())
        self._exact: EntropyNetworks | None = None
        self._precise: MPAModel | None = None
        self._device = model.device
        self._model = model
        self._building = threading.Lock()

    @property
    def config(self) -> BaseConfig:
        """Architecture of the base."""
        return self._model.config

    def __getstate__(self) -> dict[str, Any]:
        # A copy (pickled for another process, or deep) makes its own networks on first use.
        return {**self.__dict__, "_exact": None, "_precise": None, "_building": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._building = threading.Lock()

    # ------------------------------------------------------------------ still true?

    def change(self, model: MPAModel) -> str | None:
        """What makes ``model`` another base than the fingerprints say, in words; None if nothing.

        A model in training mode is the same base.
        """
        return self._seal.broken_by(model.sealed_parts())

    def fingerprint_of(self, model: MPAModel) -> str:
        """:attr:`fingerprint`, or that of the weights that ``model`` has come to since.

        Raises:
            CheckpointError: they are of a type that no base has.
        """
        return self.fingerprint if not self.change(model) else fingerprint(model.frozen_state())

    def require_unchanged(self, model: MPAModel, *, coding: bool = True) -> None:
        """Refuse a model of which the fingerprints are not true; it is used from now on.

        Args:
            model: that of the codec: the one it began with, or one put in its place.
            coding: whether it is to code, which a model in training mode cannot.

        Raises:
            ModelChangedError: it has other tensors than the base, or is in training mode.
        """
        change = self.change(model)
        if change is not None:
            # Nothing that was made meanwhile, by the model's own methods, outlives this.
            self.moved()
            model.base.entropy.forget_tables()
            raise ModelChangedError(
                f"this codec is no longer base {self.name!r} ({self.fingerprint[:16]}…), because "
                f"{change}; load the base again, or make a new one of the model: "
                "codec.model.float(), codec.model.update(), then "
                'MPACodec(codec.model, name="another name")'
            )
        training = in_training(model.sealed_parts()) if coding else None
        if training is not None:
            raise ModelChangedError(
                f"the codec's model is in training mode ({training} is), in which coding is "
                "random; call codec.model.eval() first"
            )
        if model is not self._model:
            self._model = model
            self.moved()

    # ------------------------------------------------------------------ what codes

    def prefix(self, profile: Profile) -> bytes:
        """What the header of a file says of its origin; empty for a profile the base has not."""
        whole = self.exact_fingerprint if profile == "exact" else self.fingerprint
        return bytes.fromhex(whole or "")[:FINGERPRINT_BYTES]

    def networks(self, profile: Profile) -> EntropyNetworks:
        """Those of ``profile``, where the base is; made on first use and kept.

        Raises:
            ConfigError: there is no such profile, or the base does not have it.
        """
        as_choice(profile, "profile", ("exact", "float"))
        if profile == "float":
            return self._model.base.float_networks()
        with self._building:
            self._follow()
            if self._exact is None:
                self.require_unchanged(self._model)
                exact, base = exact_profile(self._model), self._model.base
                # Some devices have no float64.
                if self._device.type == "mps":
                    base = copy.deepcopy(base).cpu()
                assert self.formats is not None
                with normal_tensors():
                    self._exact = exact.networks(base, self.formats)
            return self._exact

    def precise(self) -> MPAModel:
        """A copy of the model in float64, made on first use and kept; for the encoder."""
        with self._building, normal_tensors():
            self._follow()
            if self._precise is None:
                self.require_unchanged(self._model)
                with making_weights():
                    twin = MPAModel(self._model.config).eval()
                twin.base = copy.deepcopy(self._model.base)
                twin.encoder_path = copy.deepcopy(self._model.encoder_path)
                self._precise = twin.double()
            return self._precise

    def moved(self) -> None:
        """The model is on another device now, or is another object."""
        self._exact = self._precise = None

    def _follow(self) -> None:
        """Where the model was moved by itself, what was made on its old device is of no use."""
        if self._model.device != self._device:
            self._device = self._model.device
            self.moved()


def exact_profile(model: MPAModel) -> ExactProfile:
    """The exact entropy profile of the model's base; a :class:`ConfigError` if it has none."""
    return needs(
        model.base.capabilities.exact,
        model.config,
        "exact entropy profile",
        "code with profile='float' (--profile float)",
    )


def profile_of(number: int) -> Profile:
    """The profile with this number, which :func:`unpack` has checked."""
    return cast(Profile, PROFILES[number])
