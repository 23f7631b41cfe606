"""``mpa hub``: bases and paths from and to the Hugging Face Hub, their cards, and what is there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpa_core.cli.threads import add_threads_argument

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from mpa_core.checkpoints import BaseMeta, HubOptions, PathMeta


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa hub`` to the command line."""
    group = subparsers.add_parser(
        "hub", help="pull, push, describe and list bases and paths on the Hugging Face Hub"
    )
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="folder of copies (default: HF_HUB_CACHE)"
    )

    pull = commands.add_parser(
        "pull",
        parents=[common, cache],
        help="fetch a base, or a path and its base, into the cache; then no network is needed",
    )
    pull.add_argument("repository", metavar="REPO", help="org/repo or org/repo@revision")
    pull.add_argument("--revision", help="branch, tag or commit (default: main)")
    pull.add_argument("--force", action="store_true", help="fetch again what is in the cache")
    pull.set_defaults(run=run_pull)

    push = commands.add_parser(
        "push", parents=[common], help="publish the folder of a base or a path, in one commit"
    )
    push.add_argument("folder", type=Path, metavar="FOLDER", help="of a base or a path")
    push.add_argument("repository", metavar="REPO", help="org/repo, made where there is none")
    push.add_argument("--private", action="store_true", default=None, help="if it is made")
    push.add_argument("--branch", help="to commit to, made where there is none (default: main)")
    push.add_argument("--message", metavar="TEXT", help="of the commit")
    push.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    push.set_defaults(run=run_push)

    card = commands.add_parser(
        "card",
        parents=[common, cache],
        help="show a card and what it lacks; with options, complete that of a folder",
    )
    card.add_argument("source", metavar="FOLDER|REPO", help="of a base or a path")
    card.add_argument("--license", metavar="ID", help="of the weights, as the Hub calls it")
    card.add_argument(
        "--results", type=Path, metavar="FILE", help="results.json of mpa eval, for figures"
    )
    card.add_argument(
        "--sample", metavar="PHOTO", help="show what a photo becomes (- for a bundled photo)"
    )
    card.add_argument(
        "--base", metavar="ID", help="of a path, for --sample (default: the one that it names)"
    )
    add_threads_argument(card)
    card.set_defaults(run=run_card)

    ls = commands.add_parser(
        "ls", parents=[common, cache], help="what is in the cache; with ORG, what ORG has published"
    )
    ls.add_argument("author", nargs="?", metavar="ORG", help="an account or organisation")
    ls.set_defaults(run=run_ls)


def run_pull(args: argparse.Namespace) -> int:
    """Fetch a repository, and the base of a path."""
    from mpa_core.checkpoints import HubOptions, PathMeta, base_folder
    from mpa_core.checkpoints.publish import meta_of
    from mpa_core.cli.output import emit, facts

    options = HubOptions(args.revision, cache_dir=args.cache_dir, force_download=args.force)
    folder = _pulled(args.repository, options)
    meta = meta_of(folder)
    found = _facts(folder, meta)
    if isinstance(meta, PathMeta):
        found["base_folder"] = str(base_folder(meta.base, options))
    emit(args, found, lambda: facts(found))
    return 0


def run_push(args: argparse.Namespace) -> int:
    """Publish a folder."""
    from mpa_core.checkpoints import PathMeta
    from mpa_core.checkpoints.meta import CARD
    from mpa_core.checkpoints.model_cards import complete_card, missing_of, read_card
    from mpa_core.checkpoints.publish import (
        Target,
        folder_files,
        meta_of,
        push_files,
        require_known_base,
    )
    from mpa_core.cli.output import emit

    target = Target(
        args.repository, args.branch, args.message, args.private, create_pr=args.create_pr
    )
    meta = meta_of(args.folder)
    if isinstance(meta, PathMeta):
        require_known_base(meta.base)
    files = folder_files(args.folder)
    text = complete_card(_card_of(args.folder), meta, repo_id=target.repo_id)
    done = push_files({**files, CARD: text.encode()}, target, meta.kind)
    lacking = missing_of(read_card(text))
    data = {
        **_facts(args.folder, meta),
        "repository": done.origin.repo_id,
        "commit": done.origin.revision,
        "url": done.url,
        "card_lacks": lacking,
    }
    hint = "".join(f"\nthe card has {each}" for each in lacking)
    emit(args, data, f"{args.folder}: {meta.kind} published, {done.url}{hint}")
    return 0


def run_card(args: argparse.Namespace) -> int:
    """Show a card, or complete it."""
    from mpa_core.checkpoints import HubOptions
    from mpa_core.checkpoints.hub import SAMPLE
    from mpa_core.checkpoints.meta import CARD
    from mpa_core.checkpoints.model_cards import complete_card, missing_of, read_card
    from mpa_core.checkpoints.publish import meta_of
    from mpa_core.checkpoints.sources import source_of
    from mpa_core.checkpoints.write import write_folder
    from mpa_core.cli.common import UsageError
    from mpa_core.cli.output import emit

    changed = any(value is not None for value in (args.license, args.results, args.sample))
    remote = source_of(args.source).kind == "repository"
    if remote and changed:
        raise UsageError(
            f"mpa hub card {args.source}: a card is completed in its folder and then pushed; give "
            "a folder, or leave out --license, --results and --sample"
        )
    options = HubOptions(cache_dir=args.cache_dir)
    folder = _pulled(args.source, options) if remote else Path(args.source)
    meta = meta_of(folder)
    text = _card_of(folder)
    if changed:
        picture, caption = _sample(args, folder, meta)
        figures = _figures(args.results, meta)
        text = complete_card(text, meta, licence=args.license, eval_results=figures, sample=caption)
        shown = {SAMPLE: picture} if picture is not None else {}
        write_folder(folder, {CARD: text.encode(), **shown})
    card = read_card(text)
    lacking = missing_of(card)
    data = {
        **_facts(folder, meta),
        "metadata": card.data.to_dict(),
        "text": card.text,
        "lacks": lacking,
    }
    emit(args, data, text.rstrip() + "".join(f"\n\nthe card has {each}" for each in lacking))
    return 0


def run_ls(args: argparse.Namespace) -> int:
    """List the copies in the cache, or the repositories of an account."""
    from mpa_core.checkpoints.publish import cached, listed
    from mpa_core.cli.output import emit, table

    if args.author is not None:
        found = listed(args.author)
        data: list[dict[str, Any]] = [
            {
                "repository": each.repo_id,
                "kind": each.kind,
                "downloads": each.downloads,
                "modified": each.modified.isoformat() if each.modified else None,
            }
            for each in found
        ]
        nothing = f"{args.author} has published nothing that is tagged mpa"
    else:
        data = [
            {
                "repository": copy.origin.repo_id,
                "revision": copy.origin.revision[:12],
                "refs": list(copy.revisions),
                "kind": copy.kind,
                "name": copy.name,
                "base": copy.base,
                "bytes": copy.bytes,
                "problem": copy.problem,
            }
            for copy in cached(args.cache_dir)
        ]
        nothing = "no base and no path of the Hub is in the cache"
    problems = [f"{row['repository']}: {row['problem']}" for row in data if row.get("problem")]
    rows = [{key: value for key, value in row.items() if key != "problem"} for row in data]
    emit(args, data, lambda: "\n".join([table(rows), *problems]) if data else nothing)
    return 0


def _pulled(said: str, options: HubOptions) -> Path:
    """Fetch a repository of either kind, its sample picture left out."""
    from mpa_core.checkpoints.hub import BASE_FILES, PATH_FILES, fetch, split_repository
    from mpa_core.cli.common import UsageError

    found = split_repository(said)
    if found is None:
        raise UsageError(f"{said!r} is no repository of the Hub; write org/repo, or org/repo@v1")
    if found[1] is not None and options.revision not in (None, found[1]):
        raise UsageError(
            f"{said} and --revision {options.revision} name two revisions; leave one of them out"
        )
    files = tuple(dict.fromkeys((*BASE_FILES, *PATH_FILES)))
    return fetch(found[0], files, options.at(found[1] or options.revision))


def _facts(folder: Path, meta: BaseMeta | PathMeta) -> dict[str, Any]:
    from mpa_core.checkpoints import BaseMeta, origin_of

    origin = origin_of(folder)
    found: dict[str, Any] = {"kind": meta.kind}
    if origin is not None:
        found |= {"repository": origin.repo_id, "commit": origin.revision}
    if isinstance(meta, BaseMeta):
        found |= {"name": meta.name}
    else:
        plugin = f"{meta.plugin.distribution}{meta.plugin.version}"
        found |= {
            "path": meta.path_type,
            "base": meta.base.repo_id,
            "base_revision": meta.base.revision,
            "plugin": plugin + (" (not needed to decode)" if meta.plain else ""),
        }
    return {**found, "fingerprint": meta.fingerprint, "folder": str(folder)}


def _card_of(folder: Path) -> str:
    from mpa_core.checkpoints.meta import CARD
    from mpa_core.errors import CheckpointError

    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{folder / CARD} cannot be read as text ({error}); correct it, or delete it for a "
            "plain one"
        ) from error


def _figures(results: Path | None, meta: BaseMeta | PathMeta) -> list[EvalResult]:
    if results is None:
        return []
    from mpa_core.evaluation.figures import card_figures

    return card_figures(results, meta)


def _sample(
    args: argparse.Namespace, folder: Path, meta: BaseMeta | PathMeta
) -> tuple[bytes | None, str | None]:
    """Make the picture that ``--sample`` asks for, and the line that says what it shows."""
    if args.sample is None:
        return None, None
    from mpa_core.checkpoints import PathMeta, base_folder
    from mpa_core.cli.common import STREAM
    from mpa_core.codec import MPACodec
    from mpa_core.coding.samples import sample_picture
    from mpa_core.coding.stored import SAMPLE_QUALITY
    from mpa_core.io.images import load_image

    image = None if args.sample == STREAM else load_image(args.sample)
    path = None
    if isinstance(meta, PathMeta):
        codec = MPACodec.from_pretrained(args.base or base_folder(meta.base))
        path = codec.load_path(folder)
    else:
        codec = MPACodec.from_pretrained(folder)
    quality = min(SAMPLE_QUALITY, codec.model.config.quality_levels)
    return sample_picture(codec, image, path, quality)
