"""The part of :class:`mpa_core.codec.MPACodec` that leads from folders and the Hub, and to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from mpa_core import checkpoints
from mpa_core.checkpoints.hub import SAMPLE
from mpa_core.checkpoints.meta import CARD
from mpa_core.coding.loaded_paths import LoadedPaths
from mpa_core.runtime.normal_tensors import normal_tensors

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from mpa_core.base.capabilities import Formats
    from mpa_core.checkpoints import LoadedBase
    from mpa_core.checkpoints.meta import StorageType
    from mpa_core.checkpoints.publish import Published, Target
    from mpa_core.coding.model import MPAModel
    from mpa_core.io.images import ImageLike

SAMPLE_QUALITY = 3.0
"""Of the file behind a card's sample picture, unless another is asked for."""


class StoredCodec(LoadedPaths):
    """Methods of a codec that load it, and that save and publish its base and its paths."""

    if TYPE_CHECKING:  # which has to know what the methods below make

        def __init__(
            self,
            model: MPAModel,
            *,
            name: str,
            formats: Formats | None = None,
            _fingerprints: tuple[str | None, str | None] = (None, None),
        ) -> None: ...

    @classmethod
    @normal_tensors()
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a base: bundled, from a folder, or from the Hugging Face Hub.

        Args:
            id_or_folder: a bundled base (``"mpa-small"``), a folder that :meth:`save_pretrained`
                wrote (``"./mine"``), or a repository, ``"org/repo"`` or ``"org/repo@revision"``.
            revision: branch, tag or commit of a repository; None is ``main``.
            token, cache_dir, local_files_only: how a repository is fetched, as huggingface_hub has
                them. What is in its cache is not fetched again.

        Raises:
            CheckpointError: nothing there, or files that are damaged or of another version.
            HubError, MissingDependencyError, OutputError: the repository cannot be fetched.
        """
        options = checkpoints.HubOptions(revision, token, cache_dir, local_files_only)
        return cls._from_base(checkpoints.load_base(id_or_folder, options))

    @classmethod
    @normal_tensors()
    def from_path(
        cls,
        source: str | Path,
        name: str | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a path and the base that it names, bundled or from the Hub.

        Args:
            source: a path's repository, ``"org/repo"`` or ``"org/repo@revision"``, or its folder.
            name: local name of the path; None takes its own.
            revision, token, cache_dir, local_files_only: as in :meth:`from_pretrained`; the
                revision is the path's, the base has the one that the path names.

        Raises:
            CheckpointError: no path is there, its base is neither bundled nor a repository, or
                files are damaged or of another version.
            PathNotFoundError: the path's plugin is not installed, and it needs it.
            BaseMismatchError: the repository that the path names has another base now.
            HubError, MissingDependencyError, OutputError: a repository cannot be fetched.
        """
        options = checkpoints.HubOptions(revision, token, cache_dir, local_files_only)
        folder = checkpoints.resolve(source, checkpoints.path_on(), options)
        base = checkpoints.base_folder(checkpoints.read_path_meta(folder).base, options)
        codec = cls._from_base(checkpoints.load_base(base))
        codec._load_folder(folder, name)
        return codec

    @classmethod
    def _from_base(cls, loaded: LoadedBase) -> Self:
        codec = cls(
            loaded.model,
            name=loaded.name,
            formats=loaded.formats,
            _fingerprints=(loaded.fingerprint, loaded.exact_fingerprint),
        )
        codec.origin = loaded.origin
        return codec

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: StorageType = "float32",
        license: str | None = None,  # noqa: A002 -- the Hub's word
        card: str | None = None,
    ) -> None:
        """Write the base as a checkpoint folder (``docs/spec/checkpoint.md``); paths are separate.

        Args:
            folder: made if missing; files of the same names are replaced, others are left alone.
            dtype: ``"float16"`` halves the file by rounding matrices; the folder is another base.
            license: of the weights, an identifier of the Hub such as ``"apache-2.0"``; None: the
                card says that none is stated.
            card: text of ``README.md``; None writes a plain one.

        Raises:
            ModelChangedError: the weights are no longer those of this base.
            CheckpointError: weights that are not finite, or too large for ``dtype``.
            OutputError: the folder cannot be written; what was there is untouched.
        """
        self.profiles.require_unchanged(self.model, coding=False)
        checkpoints.save_base(
            folder,
            self.model.config,
            self.model.frozen_state(),
            name=self.name,
            formats=self.profiles.formats,
            licence=license,
            card=card,
            dtype=dtype,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        license: str | None = None,  # noqa: A002 -- the Hub's word
        eval_results: Sequence[EvalResult] = (),
        sample: ImageLike | None = None,
        card: str | None = None,
    ) -> str:
        """Publish the base in a repository of the Hub, as float32; paths are separate.

        From then on :attr:`origin` is that commit, which paths that are saved or published name.

        Args:
            repo_id: ``org/repo``; made where there is none.
            commit_message, private, token, branch, create_pr: as huggingface_hub has them.
            license: of the weights, an identifier of the Hub; None: the card says that none is
                stated.
            eval_results: figures for the card, huggingface_hub's ``EvalResult``, each with
                ``dataset_args={"pictures": N}``.
            sample: a photo to show on the card; None takes the bundled one.
            card: text of ``README.md`` to complete; None writes one.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            HubError: the Hub refuses, cannot be reached, or ``HF_HUB_OFFLINE`` is set.
            MissingDependencyError: huggingface_hub is not installed.
            ConfigError: ``repo_id`` or ``eval_results`` are none of what they may be.
            ModelChangedError, CheckpointError: as :meth:`save_pretrained`.
        """
        from mpa_core.checkpoints.publish import Target

        target = Target(repo_id, branch, commit_message, private, token, create_pr)
        save = partial(self.save_pretrained, license=license, card=card)
        done = self._publish(save, target, None, license, eval_results, sample)
        if not create_pr:
            self.origin = done.origin
        return done.url

    def push_path_to_hub(
        self,
        name: str,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        license: str | None = None,  # noqa: A002 -- the Hub's word
        eval_results: Sequence[EvalResult] = (),
        sample: ImageLike | None = None,
        card: str | None = None,
        dtype: StorageType = "float32",
    ) -> str:
        """Publish a loaded path in a repository of the Hub; it names its base.

        The base must be bundled, or come from the Hub or have been published there: else nobody
        could load the path.

        Args:
            name: what the path is called here, one of :attr:`paths`.
            repo_id, commit_message, private, token, branch, create_pr: as in :meth:`push_to_hub`.
            license, eval_results, sample, card: as in :meth:`push_to_hub`.
            dtype: ``"float16"`` halves the file by rounding matrices.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            PathNotFoundError: the path is not loaded.
            HubError: the base is not published; or as :meth:`push_to_hub`.
            MissingDependencyError, ConfigError: as :meth:`push_to_hub`.
            PluginError, ModelChangedError, CheckpointError: as :meth:`save_path`.
        """
        from mpa_core.checkpoints.publish import Target, require_known_base

        self._loaded(name)
        target = Target(repo_id, branch, commit_message, private, token, create_pr)
        require_known_base(self.reference)
        save = partial(self.save_path, name, dtype=dtype, license=license, card=card)
        return self._publish(save, target, name, license, eval_results, sample).url

    def _publish(
        self,
        save: Callable[[Path], object],
        target: Target,
        path: str | None,
        licence: str | None,
        eval_results: Sequence[EvalResult],
        sample: ImageLike | None,
    ) -> Published:
        """Save a folder that is deleted afterwards, complete its card, and commit all of it."""
        from mpa_core.checkpoints.hub import library
        from mpa_core.checkpoints.model_cards import checked_results, complete_card
        from mpa_core.checkpoints.publish import folder_files, meta_of, push_files
        from mpa_core.coding.samples import sample_picture

        library()
        results = checked_results(eval_results)
        quality = min(SAMPLE_QUALITY, self.model.config.quality_levels)
        picture, caption = sample_picture(self, sample, path, quality)
        with tempfile.TemporaryDirectory(prefix="mpa-") as made:
            folder = Path(made) / "checkpoint"
            save(folder)
            meta = meta_of(folder)
            card = complete_card(
                (folder / CARD).read_text(encoding="utf-8"),
                meta,
                repo_id=target.repo_id,
                licence=licence,
                eval_results=results,
                sample=caption,
            )
            files = {**folder_files(folder), CARD: card.encode(), SAMPLE: picture}
            return push_files(files, target, meta.kind)
