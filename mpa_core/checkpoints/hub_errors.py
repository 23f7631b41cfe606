"""The exceptions of huggingface_hub as errors of the SDK: one sentence and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from mpa_core.errors import HubError, MPAError, OutputError

Doing = Literal["fetch", "push", "list"]

_LOGIN = "log in with: hf auth login, or set HF_TOKEN"


@contextmanager
def in_a_line(
    repo_id: str, revision: str | None, doing: Doing, local_files_only: bool = False
) -> Iterator[None]:
    """Turn the errors of huggingface_hub in a block into :class:`HubError`.

    A full disk or a folder that cannot be written is an :class:`OutputError`. Errors of the SDK
    pass as they are.

    Args:
        repo_id: the repository it is about, or the account for ``doing="list"``.
        revision: as it was asked for.
        doing: what is done with it.
        local_files_only: whether the server was not to be asked.
    """
    place = _Place(repo_id, revision, doing, local_files_only)
    try:
        yield
    except MPAError:
        raise
    except Exception as error:
        raise place.explained(error) from error


@dataclass(frozen=True)
class _Place:
    repo_id: str
    revision: str | None
    doing: Doing
    local_files_only: bool

    def __str__(self) -> str:
        return self.repo_id + (f"@{self.revision}" if self.revision else "")

    def explained(self, error: BaseException) -> MPAError:
        """Return the error that says what ``error``, or its cause, means."""
        from huggingface_hub import constants, errors

        endpoint = constants.ENDPOINT
        if isinstance(error, errors.HFValidationError):
            return HubError(f"{self.repo_id!r} is no name of a repository: {error}; write org/repo")
        if isinstance(error, errors.RevisionNotFoundError):
            return HubError(
                f"{self.repo_id} on {endpoint} has no revision {self.revision or 'main'!r}; give a "
                f"branch, a tag or a commit that {endpoint}/{self.repo_id} shows"
            )
        if isinstance(error, errors.GatedRepoError):
            return HubError(
                f"{self.repo_id} on {endpoint} is open only to those its author lets in; ask at "
                f"{endpoint}/{self.repo_id}, then {_LOGIN}"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return HubError(
                f"there is no repository {self.repo_id} on {endpoint} that you may see; check the "
                f"name, or, if it is private, {_LOGIN}; for a folder here write ./{self.repo_id}"
            )
        if isinstance(error, errors.OfflineModeIsEnabled):
            return self._offline()
        if isinstance(error, errors.LocalEntryNotFoundError | errors.IncompleteSnapshotError):
            return self.explained(error.__cause__) if error.__cause__ else self._offline()
        if isinstance(error, errors.HfHubHTTPError):
            return self._refused(endpoint, error)
        if isinstance(error, RuntimeError) and error.__cause__ is not None:  # from a thread of its
            return self.explained(error.__cause__)
        if _is_transport(error):
            again = "" if self.doing == "push" else ", and no whole copy of it is in the cache"
            return HubError(
                f"cannot {self.doing} {self}: no connection with {endpoint} that holds "
                f"({_text(error)}){again}; check the network, the proxy and HF_ENDPOINT, then run "
                "it again: whole files are kept"
            )
        if isinstance(error, OSError) and error.errno is not None:
            return _unwritable(error)
        if "Consistency check failed" in str(error):
            return HubError(
                f"cannot {self.doing} {self}: a file did not arrive whole ({_text(error)}); "
                "run it again"
            )
        return HubError(
            f"cannot {self.doing} {self} ({type(error).__name__}: {_text(error)}); check the name, "
            f"the files and {endpoint}/{self.repo_id}"
        )

    def _offline(self) -> HubError:
        from huggingface_hub import constants

        why = "local_files_only=True" if self.local_files_only else "HF_HUB_OFFLINE=1"
        if self.doing != "fetch":
            return HubError(f"cannot {self.doing} {self} under {why}; unset it, and run it again")
        return HubError(
            f"no whole copy of {self} is in the cache ({constants.HF_HUB_CACHE} unless another is "
            f"given), and {why} asks no server; with a network run: mpa hub pull {self}"
        )

    def _refused(self, endpoint: str, error: Any) -> HubError:
        """Return the error for what the server answered, by its status."""
        status = error.response.status_code
        said = _text(error.server_message or error)
        found = f"cannot {self.doing} {self}: {endpoint} answers {status}"
        if status == 401:
            return HubError(f"{found}, the token is none it knows ({said}); {_LOGIN}")
        if status == 403:
            needed = "write to" if self.doing == "push" else "read"
            return HubError(
                f"{found}, the account may not {needed} it ({said}); use a token that may, of a "
                f"member of {self.repo_id.partition('/')[0]}: {_LOGIN}"
            )
        if status in (409, 412):
            return HubError(
                f"{found}, somebody else wrote to it at the same time ({said}); look at "
                f"{endpoint}/{self.repo_id}, then run it again"
            )
        if status == 429:
            return HubError(f"{found}, too many requests ({said}); wait a few minutes, or {_LOGIN}")
        if status >= 500:
            return HubError(f"{found}, it is out of order ({said}); run it again later")
        return HubError(f"{found} ({said}); check the name and the files")


def _unwritable(error: OSError) -> OutputError:
    where = f" {error.filename}" if error.filename else " the cache"
    failure = OutputError(
        f"cannot write{where}: {error.strerror}; free space or mend its permissions, or name "
        "another folder with cache_dir= or HF_HUB_CACHE"
    )
    failure.errno = error.errno
    return failure


def _is_transport(error: BaseException) -> bool:
    """Whether the connection itself failed; the HTTP library's own errors, whichever that is."""
    from huggingface_hub.errors import HfHubHTTPError

    http_error = HfHubHTTPError.__mro__[1]
    return isinstance(error, (http_error, ConnectionError, TimeoutError))


def _text(error: object) -> str:
    """Return the text of an error in one line, shortened."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"
