"""A process that has imported what takes long, and forks one for each command it is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMANDS = """
import torch, torch._dynamo  # the latter by the first optimizer and the first count of operations
import mpa_core.codec, mpa_core.io.images, mpa_core.cli.batch.run
import mpa_core.evaluation.run, mpa_core.training.runs.run
"""
"""What the commands that code, evaluate and train import."""

SERVER = """
import ctypes, json, os, resource, signal, struct, sys

def become(request):
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(request[name], flags), number)
    os.environ.update(request["env"])
    if request["cwd"]:
        os.chdir(request["cwd"])
    sys.path[1:1] = request["path"]
    if request["largest"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"],) * 2)
    if request["unprivileged"] and sys.platform == "linux":
        # Without its capabilities even root is held to the permissions of its own files.
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        assert ctypes.CDLL(None).capset(header, nothing) == 0

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        status = os.waitpid(request["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    become(request)
    if "code" in request:
        exec(request["code"], {"__name__": "__main__"})
        sys.exit()
    from mpa_core.cli.main import main
    code = main(request["words"])
    sys.stdout.flush()
    os._exit(code)
"""


@dataclass
class Result:
    """What one call of the command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The result as one document of JSON."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[Any]:
        """The lines of JSON of the single files."""
        return [json.loads(line) for line in self.out.splitlines()[:-1]]

    @property
    def sums(self) -> Any:
        """The last line of JSON, behind those of the files."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def raw(self) -> bytes:
        """What a process wrote to stdout, which need not be text."""
        return self.out.encode("utf-8", "surrogateescape")

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


class Running:
    """A process (and process group) of its own."""

    def __init__(self, ask: Callable[..., int], folder: Path, request: dict[str, Any]) -> None:
        self._ask = ask
        self.stdout, self.stderr = folder / "stdout", Path(request.pop("stderr"))
        self.pid = ask(**request, stdout=str(self.stdout), stderr=str(self.stderr))

    def signal(self, number: int, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self) -> Result:
        """The exit code is the negative number of a signal that ended the process."""
        code = self._ask(wait=self.pid)
        out, err = (
            # Not of a terminal, which would not end.
            file.read_bytes().decode("utf-8", "surrogateescape") if file.is_file() else ""
            for file in (self.stdout, self.stderr)
        )
        return Result(code, out, err)


class ForkServer:
    """Starts processes that need not import again what their parent has imported."""

    def __init__(self, ask: Callable[..., int]) -> None:
        self._ask = ask

    def start(
        self,
        folder: Path,
        *,
        words: list[str] | None = None,
        code: str | None = None,
        stdin: str = os.devnull,
        stderr: str | None = None,
        env: dict[str, str] | None = None,
        path: list[str] | None = None,
        cwd: str = "",
        largest: int = 0,
        unprivileged: bool = False,
    ) -> Running:
        """``mpa`` with ``words``, or a program ``code``; its output goes into ``folder``.

        ``stderr`` is another place for its errors, such as a terminal.
        """
        what = {"words": words} if code is None else {"code": code}
        limits = {"largest": largest, "unprivileged": unprivileged}
        places = {"stdin": stdin, "stderr": stderr or str(folder / "stderr")}
        places |= {"env": env or {}, "path": path or [], "cwd": cwd}
        return Running(self._ask, folder, {**what, **places, **limits})


@contextmanager
def fork_server(imports: str, *flags: str, env: dict[str, str]) -> Iterator[ForkServer]:
    """A server that has done ``imports``, in an interpreter with ``flags``."""
    with subprocess.Popen(
        [sys.executable, *flags, "-c", f"{imports}\n{SERVER}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:

        def ask(**request: object) -> int:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ForkServer(ask)
        process.stdin.close()
