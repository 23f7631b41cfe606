"""The command ``mpa paths``: the installed task paths, and a description of each."""

from __future__ import annotations

import argparse


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add ``mpa paths`` to the command line."""
    group = subparsers.add_parser("paths", help="list and describe installed task paths")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    ls = commands.add_parser("ls", parents=[common], help="every installed task path")
    ls.set_defaults(run=run_ls)

    info = commands.add_parser("info", parents=[common], help="one task path in detail")
    info.add_argument("name", help="its name, or distribution:name")
    info.set_defaults(run=run_info)


def run_ls(args: argparse.Namespace) -> int:
    """List the registered paths; imports no path class, hence no torch."""
    from mpa_core.cli.output import emit, table
    from mpa_core.plugins.registry import registry

    found = registry()
    rows = [(found.name_of(path), path, path.spec.bundled_bases()) for path in found.paths()]
    data = [
        {
            "name": name,
            "distribution": path.distribution,
            "version": path.version,
            "bundled_for": list(bases),
            "summary": path.spec.summary,
        }
        for name, path, bases in rows
    ]

    def text() -> str:
        lines = [
            {
                "name": name,
                "distribution": f"{path.distribution} {path.version}",
                "bundled for": ", ".join(bases) or "-",
                "summary": path.spec.summary,
            }
            for name, path, bases in rows
        ]
        return table(lines) if lines else "no task paths are installed"

    emit(args, data, text)
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Describe one path: its distribution, its default config, its size on each preset."""
    from mpa_core.cli.output import emit, facts
    from mpa_core.plugins.registry import registry

    path = registry().get(args.name)
    path_class = registry().load_class(args.name)

    import torch

    from mpa_core.base.tinylic.presets import PRESETS
    from mpa_core.paths.path import building_path

    parameters: dict[str, int] = {}
    with building_path(path_class):
        config = path_class.Config()
        settings = config.model_dump(mode="json")
        for name, base in PRESETS.items():
            with torch.device("meta"):  # counted, not allocated
                built = path_class(base.decoder_path_stages, config)
            parameters[name] = sum(tensor.numel() for tensor in built.parameters())
    data: dict[str, object] = {
        "name": path.name,
        "summary": path.spec.summary,
        "distribution": path.distribution,
        "version": path.version,
        "path": path.spec.path,
        "recipe": path.spec.recipe,
        "config": settings,
        "parameters": parameters,
        "bundled_for": list(path.spec.bundled_bases()),
    }

    emit(args, data, lambda: facts(data))
    return 0
