"""A Hub on loopback that huggingface_hub of this process talks to, and what is published there."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import Hub, point_at, running_hub
from huggingface_hub.utils import disable_progress_bars

from mpa_core import MPACodec

TOKEN = "hf_writes"


@pytest.fixture(scope="session")
def _server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(_server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub where ``TOKEN`` may write for ``lab``, and an empty cache."""
    _server.repositories, _server.lfs = {}, {}
    _server.requests.clear()
    _server.faults.clear()
    _server.tokens = {TOKEN: {"lab"}, "hf_reads": set()}
    point_at(_server, monkeypatch, tmp_path / "cache", TOKEN)
    disable_progress_bars()
    yield _server
    huggingface_hub.close_session()


@pytest.fixture(scope="session")
def _codec(tiny_base: Path, tiny_cls_path: Path) -> MPACodec:
    codec = MPACodec.from_pretrained(tiny_base)
    codec.load_path(tiny_cls_path)
    return codec


@pytest.fixture
def codec(_codec: MPACodec) -> MPACodec:
    """The smallest base with a ``cls`` path on it, published nowhere."""
    _codec.origin = None
    return _codec


@pytest.fixture(scope="session")
def _published(_server: Hub, _codec: MPACodec, sample, tmp_path_factory):
    """What the server knows, and the codec, once both have been pushed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        point_at(_server, monkeypatch, tmp_path_factory.mktemp("cache"), TOKEN)
        _server.tokens = {TOKEN: {"lab"}}
        photo = sample.crop((0, 0, 64, 64))
        _codec.push_to_hub("lab/base", license="mit", sample=photo)
        _codec.push_path_to_hub("cls", "lab/cls", license="mit", sample=photo)
        return copy.deepcopy(_server.repositories), dict(_server.lfs), _codec.origin


@pytest.fixture
def published(_published, hub: Hub, codec: MPACodec) -> MPACodec:
    """``codec``, whose base is ``lab/base`` and whose path is ``lab/cls``."""
    repositories, lfs, codec.origin = _published
    hub.repositories, hub.lfs = copy.deepcopy(repositories), dict(lfs)
    return codec


@pytest.fixture
def process(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """``mpa`` in a process of its own, told by environment variables alone."""

    def start(*words: object, **more: object) -> subprocess.Popen[str]:
        cache = {"HF_HUB_CACHE": str(tmp_path / "shared-cache")}
        return subprocess.Popen(
            [sys.executable, "-m", "mpa_core.cli", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **cache},
            **more,
        )

    return start
