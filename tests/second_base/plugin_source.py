"""Source of ``mpa-plugin-plain``: a third party's base of plain convolutions, with a hyperprior.

Three levels of quality, 4 pixels per position of ``y`` and 8 per one of ``z``, no side path in the
encoder, no exact profile.
"""

DISTRIBUTION = "mpa-plugin-plain"

TOP = """
from mpa_core import BaseSpec, PathSpec, hookimpl


@hookimpl
def mpa_bases():
    return [
        BaseSpec(
            name="plain",
            base="mpa_plugin_plain.base:PlainBase",
            config="mpa_plugin_plain.config:PlainConfig",
            summary="Plain convolutions and a hyperprior.",
            presets={"plain-tiny": {"width": 12}},
        )
    ]


@hookimpl
def mpa_task_paths():
    return [PathSpec(name="bright", path="mpa_plugin_plain.path:BrightPath", summary="A path.")]
"""

PATH = """
from mpa_core import TaskPath


class BrightPath(TaskPath):
    name = "bright"
"""

CONFIG = """
from typing import ClassVar

from mpa_core.config import BaseConfig, PathStage, Width


class PlainConfig(BaseConfig):
    type: ClassVar[str] = "mpa-plugin-plain:plain"
    latent_stride: ClassVar[int] = 4
    hyper_stride: ClassVar[int] = 8
    encoder_path_stages: ClassVar[tuple[PathStage, ...]] = ()

    width: Width = 12
    quality_levels: int = 3

    @property
    def latent_channels(self):
        return self.width

    @property
    def hyper_channels(self):
        return self.width // 2

    @property
    def least_parameters(self):
        return 2 * 25 * self.width * (3 + self.width)

    @property
    def decoder_path_stages(self):
        return (PathStage(0, self.width, 2),)

    @property
    def summary(self):
        return f"Width: {self.width}"
"""

BASE = '''
import torch
from torch import nn
from torch.nn import functional as F

from mpa_core.base.api import Base
from mpa_core.base.capabilities import Capabilities
from mpa_core.base.entropy import EntropyModel
from mpa_core.base.gains import Gains
from mpa_core.base.networks import FloatNetworks


class PlainEntropy(EntropyModel):
    """No context: all of ``y`` in one step, with means and scales from ``z``."""

    def walk(self, params, visit, networks=None):
        scales, means = params[None].chunk(2, 2)
        return visit(None, means, scales)[0]

    def take(self, y, step):
        return y[None]

    def assemble(self, parts):
        return parts[0][0]

    def coding_order(self, part):
        return part


class PlainBase(Base):
    def __init__(self, config):
        super().__init__(config)
        width, hyper = config.width, config.hyper_channels
        self.down = nn.ModuleList(
            nn.Conv2d(channels, width, 5, 2, 2) for channels in (3, width)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(width, channels, 5, 2, 2, 1) for channels in (width, 3)
        )
        self.feed_forward = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.hyper_down = nn.Conv2d(width, hyper, 5, 2, 2)
        self.hyper_up = nn.ConvTranspose2d(hyper, 2 * width, 5, 2, 2, 1)
        self.gains = Gains(width, config.quality_levels)
        self.entropy = PlainEntropy(width, hyper)

    def analyse(self, x, quality, router=None):
        return self.gains.scale(self.down[1](F.gelu(self.down[0](x))), quality)

    def hyper_analyse(self, y, quality):
        return self.hyper_down(y)

    def hyper_synthesise(self, z_hat, quality):
        return self.hyper_up(z_hat)

    def synthesise(self, y_hat, quality, router=None):
        tokens = self.gains.unscale(y_hat, quality).permute(0, 2, 3, 1)
        own = None if router is None else router(0, tokens)
        for index, main in enumerate(self.feed_forward):
            tokens = tokens + (main(tokens) if own is None else own(tokens, index, main))
        return self.up[1](F.gelu(self.up[0](tokens.permute(0, 3, 1, 2)))) + 0.5

    def float_networks(self):
        return FloatNetworks(self)

    @property
    def after_decoding(self):
        return ("up.*", "feed_forward.*", "gains.inverse_gain")

    @property
    def capabilities(self):
        return Capabilities(spread_gains=lambda y, z: self.gains.spread(*y))
'''

MODULES = {"__init__": TOP, "config": CONFIG, "base": BASE, "path": PATH}
