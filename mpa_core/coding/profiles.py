"""Entropy profiles of a codec: the arithmetic that turns symbols into bytes, and its identity.

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
"""``exact``: every machine decodes the same symbols. ``float``: the streams of the paper's code."""
NUMBERS: dict[str, int] = {name: number for number, name in PROFILES.items()}
FINGERPRINT_BYTES = 8
"""Length in bytes of the fingerprint prefix in a file."""


class EntropyProfiles:
    """The networks and fingerprints of a base's profiles, and a check that they still hold.

    Args:
        model: the model with its final weights, float32, and CDF tables.
        name: name of the base, for messages.
        formats: formats of the exact profile, by layer; None takes those that fit any input, if the
            base has an exact profile.
        fingerprints: fingerprints of the base and of the exact profile, if the caller has just
            computed them from these very tensors and formats; None for one that is not known.

    Attributes:
        formats: formats of the exact profile, by layer; None where the base has no exact profile.
        fingerprint: 64 hex digits of the base: paths, and files of the float profile, name it.
        exact_fingerprint: 64 hex digits of the base and ``formats``: files of the exact profile
            name it; None where the base has no exact profile.

    Raises:
        ConfigError: ``formats`` are given, but the base has no exact profile.
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
        """Describe how ``model`` differs from the base that was fingerprinted; None if it does not.

        Training mode makes no difference here.
        """
        return self._seal.broken_by(model.sealed_parts())

    def fingerprint_of(self, model: MPAModel) -> str:
        """Return :attr:`fingerprint`, or that of the model's present weights if they have changed.

        Raises:
            CheckpointError: the weights are of a type that no base has.
        """
        return self.fingerprint if not self.change(model) else fingerprint(model.frozen_state())

    def require_unchanged(self, model: MPAModel, *, coding: bool = True) -> None:
        """Refuse a model that the fingerprints do not describe; otherwise use it from now on.

        Args:
            model: the codec's model: the one it began with, or one put in its place.
            coding: whether the model is about to code, which it cannot do in training mode.

        Raises:
            ModelChangedError: the model has other tensors than the base, or is in training mode.
        """
        change = self.change(model)
        if change is not None:
            # Networks and tables made meanwhile, by the model's own methods, are discarded.
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
        """Return the 8 bytes by which a file's header names its base; empty without the profile."""
        whole = self.exact_fingerprint if profile == "exact" else self.fingerprint
        return bytes.fromhex(whole or "")[:FINGERPRINT_BYTES]

    def networks(self, profile: Profile) -> EntropyNetworks:
        """Return the networks of ``profile`` on the base's device, made on first use and kept.

        Raises:
            ConfigError: there is no such profile, or the base does not have it.
            ModelChangedError: the weights are no longer those of the base.
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
        """Return a float64 copy of the model for the encoder, made on first use and kept.

        Raises:
            ModelChangedError: the weights are no longer those of the base.
        """
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
        """Discard the networks made so far, after the model was moved or replaced."""
        self._exact = self._precise = None

    def _follow(self) -> None:
        """Discard networks that were made on another device than the model's present one."""
        if self._model.device != self._device:
            self._device = self._model.device
            self.moved()


def exact_profile(model: MPAModel) -> ExactProfile:
    """Return the exact entropy profile of the model's base.

    Raises:
        ConfigError: the base has none.
    """
    return needs(
        model.base.capabilities.exact,
        model.config,
        "exact entropy profile",
        "code with profile='float' (--profile float)",
    )


def profile_of(number: int) -> Profile:
    """Return the profile with this number, which :func:`unpack` has checked."""
    return cast(Profile, PROFILES[number])
