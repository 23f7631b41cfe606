"""Our model in CompressAI's own evaluation, so that results can be compared with its zoo's.

``python -m mpa_core.evaluation.compressai_eval --base mpa-small pretrained PHOTOS -a mpa -q 1,4,8``
registers the base as architecture ``mpa`` and passes everything else to
``compressai.utils.eval_model``. Its bits are those of the streams alone, without the header of an
``.mpa`` file, and it pads pictures on all four sides with black.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from torch import Tensor, nn

from mpa_core.checkpoints import AskedPaths
from mpa_core.codec import MPACodec
from mpa_core.errors import MissingDependencyError
from mpa_core.evaluation.learned import check_mixes
from mpa_core.mix import Mix
from mpa_core.runtime.commands import Parser, run_command
from mpa_core.runtime.streams import stdout

ARCHITECTURE = "mpa"


class AtOneQuality(nn.Module):
    """A codec's model at one quality, decoded by one mix: the interface of CompressAI's models.

    It codes in the exact entropy profile, as files do.

    Args:
        codec: the codec that has the model.
        quality: real, from 1 to the number of levels.
        mix: the paths that reconstruct.
    """

    def __init__(self, codec: MPACodec, quality: float, mix: Mix) -> None:
        super().__init__()
        self.model = codec.model
        self.networks = codec.profiles.networks("exact")
        self.quality = quality
        self.mix = mix

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Return ``x_hat`` and ``likelihoods`` of ``x`` [B, 3, H, W] in [0, 1].

        H and W are multiples of the base's hyper stride.
        """
        found: dict[str, Any] = self.model(x, self.quality, self.mix)
        return found

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Return ``strings`` and ``shape``, see :meth:`MPAModel.compress`."""
        coded = self.model.compress(x, self.quality, networks=self.networks)
        return {"strings": coded["strings"], "shape": coded["shape"]}

    def decompress(self, strings: Sequence[Sequence[bytes]], shape: Any) -> dict[str, Tensor]:
        """Return ``x_hat`` [B, 3, H, W] in [0, 1]."""
        return self.model.decompress(
            strings, tuple(shape), self.quality, self.mix, networks=self.networks
        )


def register(codec: MPACodec, mix: Mix | None = None) -> None:
    """Make ``codec`` CompressAI's architecture ``mpa``, decoded by ``mix`` (None: main path).

    Raises:
        PathNotFoundError: the mix needs a path that is not loaded.
        MissingDependencyError: CompressAI is not installed.
    """
    chosen = mix if mix is not None else Mix()
    check_mixes(codec, [chosen])

    def build(quality: float, **_others: Any) -> AtOneQuality:
        return AtOneQuality(codec, quality, chosen)

    evaluation().pretrained_models[ARCHITECTURE] = build


def evaluation() -> Any:
    """Import ``compressai.utils.eval_model.__main__``, which sets torch to one thread.

    Raises:
        MissingDependencyError: CompressAI is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its dependencies
            from compressai.utils.eval_model import __main__ as module
    except ImportError as error:
        raise MissingDependencyError(
            f"CompressAI cannot be imported ({error}), and this is its evaluation; it comes with "
            "mpa-core on Python 3.10 to 3.12, mpa eval needs none of it"
        ) from error
    return module


def main(argv: Sequence[str] | None = None) -> int:
    """Register a base, then run CompressAI's command with the other arguments."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--base", default="mpa-small", help="bundled base or folder (%(default)s)")
    parser.add_argument("--paths", nargs="+", default=[], help="to load: NAME or NAME=FOLDER")
    parser.add_argument("--mix", default="main=1", help="decode by, for example cls=0.4,mse=0.2")

    def command() -> int:
        options, others = parser.parse_known_args(argv)
        codec = MPACodec.from_pretrained(options.base)
        asked = AskedPaths(options.paths)
        codec.load_paths(asked.sources)
        register(codec, asked.mix(Mix.parse(options.mix)))
        with redirect_stdout(stdout()):  # it prints its results
            evaluation().main(others)
        return 0

    return run_command("compressai_eval", command, for_good=argv is None)


if __name__ == "__main__":
    sys.exit(main())
