"""A Hub on loopback that huggingface_hub of this process talks to, and what is published there."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from hub_server import Hub, running_hub
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http, disable_progress_bars

from mpa_core import MPACodec

TOKEN = "hf_writes"
NO_WAIT = SimpleNamespace(sleep=lambda _: None)
"""In place of the seconds that huggingface_hub waits before it tries again."""


@pytest.fixture(scope="session")
def _server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def point_at(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """What the environment variables of huggingface_hub mean, which it reads when imported."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", NO_WAIT)


@pytest.fixture
def hub(_server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub where ``TOKEN`` may write for ``lab``, and an empty cache."""
    _server.repositories, _server.lfs = {}, {}
    _server.requests.clear()
    _server.faults.clear()
    _server.tokens = {TOKEN: {"lab"}, "hf_reads": set()}
    point_at(_server, monkeypatch, tmp_path / "cache")
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
        point_at(_server, monkeypatch, tmp_path_factory.mktemp("cache"))
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
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(tmp_path / "shared-cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": TOKEN,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "mpa_core.cli", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **more,
        )

    return start
