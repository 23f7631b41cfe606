"""The run of ``mpa eval``: codes the pictures, measures the reconstructions, keeps the rows.

Work is done in groups (one quality of ours by every mix, or one setting of a classic codec) over
all pictures; after each group all results so far are written to disk, and a later run skips them.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mpa_core import __version__
from mpa_core.bitstream.container import quantize_quality
from mpa_core.codec import MPACodec
from mpa_core.evaluation import learned
from mpa_core.evaluation.classic import (
    ClassicCodec,
    ClassicFile,
    ClassicFormat,
    classic_codec,
    encode,
    nearest_setting,
)
from mpa_core.evaluation.complexity import macs_per_pixel
from mpa_core.evaluation.filling import Filling
from mpa_core.evaluation.kept import KeptFile, KeptFiles, cpu_seconds, key_of
from mpa_core.evaluation.learned import mix_name, source_of
from mpa_core.evaluation.measures import Measure, as_batch, build_measures
from mpa_core.evaluation.plan import Plan, ShowProgress
from mpa_core.evaluation.plots import strip, sweep_name
from mpa_core.evaluation.report import write_report
from mpa_core.evaluation.results import FILE, PHOTOS, Results, Row, rounded
from mpa_core.evaluation.sets import MeasuredSet, collect
from mpa_core.evaluation.spreadsheet import to_csv
from mpa_core.evaluation.tables import sweeps
from mpa_core.io.files import already_exists, write_bytes, write_text
from mpa_core.io.folders import claim_output
from mpa_core.mix import Mix

FILES = "files"
"""Name of the folder of encoded pictures, in the output folder."""
PICTURES = "pictures"
"""Name of the folder of the pictures that a protocol makes of the photos, in the output folder."""

CLASSIC_QUALITY = 1.0
"""Quality that a recipe gets for a classic codec's file, which has no quality of ours."""


@dataclass(frozen=True)
class _Group:
    """Rows of one set that are measured together."""

    label: str
    pictures: MeasuredSet
    rows: list[dict[str, Any]]
    """The fields of each row that identify it."""
    measure: Callable[[list[dict[str, Any]]], list[Row]]
    """Measures those of ``rows`` that are not known yet."""


class Evaluation:
    """One run of an evaluation plan on a codec.

    Args:
        plan: the pictures, codecs and metrics to measure.
        codec: with its paths loaded; None measures the classic codecs alone.
        device: device of the task and perceptual networks; the codec stays on its model's.

    Raises:
        OutputError: results exist and ``plan.resume`` is false, or cannot be written, or
            ``plan.out`` is the folder of the pictures.
        MPAError: the errors of :func:`collect`, :func:`build_measures` and :func:`classic_codec`.
    """

    def __init__(self, plan: Plan, codec: MPACodec | None, device: torch.device) -> None:
        self.plan = plan
        self.codec = codec
        self.device = device
        self.file = plan.out / FILE
        self.results = Results()
        if self.file.exists():
            if not plan.resume:
                raise already_exists(self.file, "go on from it with --resume")
            self.results = Results.load(self.file)
        claim_output(plan.out, [plan.dataset])
        if codec is not None:
            sweep = plan.sweep.mixes() if plan.sweep else []
            learned.check_mixes(codec, [*plan.mixes, *map(Mix.parse, sweep)])
        self.classics = dict(map(classic_codec, [*plan.codecs, *plan.match]))
        self.measures: list[Measure] = build_measures(plan.perceptual, device)
        self.sets = collect(
            plan.dataset,
            plan.tasks,
            device,
            limit=plan.limit,
            settings=plan.task_settings,
            protocol=plan.protocol,
            store=plan.out / PICTURES,
        )
        self.kept = KeptFiles(plan.out / FILES)

    def run(self, progress: ShowProgress) -> Results:
        """Measure all that is missing; results are written to disk after each group."""
        results = self.results
        for measure in self.measures:
            results.define(measure.info)
        for item in self.sets:
            results.sets[item.key] = item.about
            for info in (info for task in item.tasks for info in task.infos()):
                results.define(info)
        results.about = {
            "mpa_core": __version__,
            "torch": str(torch.__version__),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(self.device),
            **({"base": self.codec.status()} if self.codec else {}),
        }
        self._drop_outdated()
        groups = list(self._groups())
        for done, group in enumerate(groups):
            progress(group.label, done, len(groups))
            columns = set(self._columns(group.pictures))
            missing = [fields for fields in group.rows if self._missing(fields, columns)]
            if missing:
                for row in group.measure(missing):
                    results.add(row)
                results.save(self.file)
        results.save(self.file)
        progress("done", len(groups), len(groups))
        return results

    def write(self, *, plots: bool = True) -> list[Path]:
        """Write tables, plots and the strip beside the results.

        Returns:
            The files of results, tables and plots.
        """
        out = self.plan.out
        write_text(out / "results.csv", to_csv(self.results))
        if plots:
            self._write_strips()
        page = write_report(self.results, out / "results.md", plots=out if plots else None)
        return [self.file, out / "results.csv", *page]

    def _write_strips(self) -> None:
        """Write a strip of pictures along the sweep of this run, for one picture of each set."""
        codec, sweep = self.codec, self.plan.sweep
        if codec is None or sweep is None:
            return
        wanted = set(sweep.mixes())
        for rows in sweeps(self.results):
            item = next((each for each in self.sets if each.key == rows.pictures.key), None)
            names = [row.mix or "" for row in rows.rows]
            if item is None or not wanted <= set(names) or rows.quality != self._sweep_quality():
                continue
            index = min(self.plan.strip_picture, len(item.images) - 1)
            file = self._our_file(codec, item, index, rows.quality)
            shown = list(map(Mix.parse, sweep.mixes()))
            decoded = learned.reconstructions(codec, file.data, shown)
            captions = [f"{sweep.last} {share:.3g}" for share in sweep.shares()]
            pictures = [
                (text, picture) for text, (picture, _) in zip(captions, decoded, strict=True)
            ]
            buffer = io.BytesIO()
            sheet = strip(Image.fromarray(item.images[index]), pictures)
            sheet.save(buffer, "JPEG", quality=88, subsampling="4:4:4")
            write_bytes(self.plan.out / f"{sweep_name(rows)}-strip.jpg", buffer.getvalue())

    def _missing(self, fields: dict[str, Any], columns: set[str]) -> bool:
        known = self.results.rows.get(Filling(fields).row().key)
        return known is None or not columns <= set(known.values)

    def _drop_outdated(self) -> None:
        """Drop rows of other weights or versions under a name that is measured now."""
        current: dict[str, Any] = {key: _source(codec) for key, codec in self.classics.items()}
        ours: dict[str, Any] = {}
        if self.codec is not None:
            ours = source_of(self.codec, Mix(regions=dict.fromkeys(self.codec.paths)))
        for key, row in list(self.results.rows.items()):
            if row.mix is not None:
                old = any(ours.get(name, value) != value for name, value in row.source.items())
                old = old and self.codec is not None and row.codec == self.codec.name
            else:
                old = current.get(row.codec, row.source) != row.source
            matched_to = (row.match or {}).get("base")
            if old or (ours and matched_to not in (None, ours["base"])):
                del self.results.rows[key]

    def _columns(self, item: MeasuredSet) -> list[str]:
        return [measure.info.name for measure in self.measures] + item.columns

    # ------------------------------------------------------------------ what there is to do

    def _groups(self) -> Iterator[_Group]:
        if self.codec is not None:
            for item in self.sets:
                for quality in self._qualities():
                    yield self._learned_group(self.codec, item, quality)
        # Slow encoders come last, so that quick results appear early.
        for item in self.sets:
            for name in self.plan.match if self.codec is not None else ():
                for quality in map(quantize_quality, self.plan.qualities):
                    yield self._matched_group(item, classic_codec(name)[0], quality)
        for name in self.plan.codecs:
            key = classic_codec(name)[0]
            for item in self.sets:
                if item.about.name == PHOTOS:
                    for setting in self.classics[key].curve:
                        yield self._classic_group(item, key, setting)

    def _qualities(self) -> list[float]:
        found = {quantize_quality(q) for q in self.plan.qualities}
        return sorted(found | ({self._sweep_quality()} if self.plan.sweep else set()))

    def _sweep_quality(self) -> float:
        qualities = sorted(self.plan.qualities)
        chosen = self.plan.sweep_quality
        return quantize_quality(qualities[len(qualities) // 2] if chosen is None else chosen)

    def _mixes(self, quality: float) -> list[Mix]:
        found = {mix_name(mix): mix for mix in self.plan.mixes}
        if quality not in map(quantize_quality, self.plan.qualities):
            found = {}
        if self.plan.sweep and quality == self._sweep_quality():
            found |= {name: Mix.parse(name) for name in self.plan.sweep.mixes()}
        return list(found.values())

    # ------------------------------------------------------------------ ours

    def _learned_group(self, codec: MPACodec, item: MeasuredSet, quality: float) -> _Group:
        mixes = {mix_name(mix): mix for mix in self._mixes(quality)}
        rows = [
            {
                "pictures": item.key,
                "codec": codec.name,
                "setting": quality,
                "mix": name,
                "source": source_of(codec, mix),
            }
            for name, mix in mixes.items()
        ]

        def measure(rows: list[dict[str, Any]]) -> list[Row]:
            filled = [Filling(fields) for fields in rows]
            wanted = [mixes[fields["mix"]] for fields in rows]
            for index, image in enumerate(item.images):
                original = Image.fromarray(image)
                file = self._our_file(codec, item, index, quality)
                decoded = learned.reconstructions(codec, file.data, wanted)
                for filling, (picture, seconds) in zip(filled, decoded, strict=True):
                    values = self._values(item, index, original, picture, quality)
                    filling.add(file, seconds, values)
            return [
                filling.row(macs_per_pixel=_short_macs(codec, quality, mix))
                for filling, mix in zip(filled, wanted, strict=True)
            ]

        label = f"{item.about.label}: {codec.name} at quality {quality:g}, {len(mixes)} mixes"
        return _Group(label, item, rows, measure)

    def _our_file(self, codec: MPACodec, item: MeasuredSet, index: int, quality: float) -> KeptFile:
        # The fingerprint prefix in the file's header, of base and entropy profile.
        origin = codec.profiles.prefix("exact").hex()
        name = f"mpa-{origin}/{quality:g}/{item.about.digests[index]}{learned.SUFFIX}"
        return self.kept.get(name, lambda: learned.encode(codec, item.images[index], quality))

    # ------------------------------------------------------------------ classic codecs

    def _classic_group(self, item: MeasuredSet, key: ClassicFormat, setting: int) -> _Group:
        fields = {
            "pictures": item.key,
            "codec": key,
            "setting": setting,
            "mix": None,
            "source": _source(self.classics[key]),
        }

        def measure(rows: list[dict[str, Any]]) -> list[Row]:
            (fields,) = rows
            filling = Filling(fields)
            for index in range(len(item.images)):
                self._fill(filling, item, index, key, setting, CLASSIC_QUALITY)
            return [filling.row()]

        label = f"{item.about.label}: {self.classics[key].label} at {setting}"
        return _Group(label, item, [fields], measure)

    def _matched_group(self, item: MeasuredSet, key: ClassicFormat, quality: float) -> _Group:
        codec = self.codec
        assert codec is not None
        fields = {
            "pictures": item.key,
            "codec": key,
            "setting": None,
            "mix": None,
            "source": _source(self.classics[key]),
            "match": {"base": codec.fingerprint[:16], "quality": quality},
        }

        def measure(rows: list[dict[str, Any]]) -> list[Row]:
            (fields,) = rows
            filling = Filling(fields)
            settings = []
            for index in range(len(item.images)):
                wanted = len(self._our_file(codec, item, index, quality).data)
                setting = self._nearest(item, index, key, wanted)
                settings.append(setting)
                self._fill(filling, item, index, key, setting, quality)
            return [filling.row(settings=settings)]

        label = (
            f"{item.about.label}: {self.classics[key].label} at the bytes of quality {quality:g}"
        )
        return _Group(label, item, [fields], measure)

    def _nearest(self, item: MeasuredSet, index: int, key: ClassicFormat, wanted: int) -> int:
        codec = self.classics[key]
        known = self.kept.sizes(_folder(key, codec), item.about.digests[index], codec.suffix)
        return nearest_setting(
            lambda setting: len(self._classic_file(item, index, key, setting).data),
            codec.settings,
            wanted,
            known,
        )

    def _classic_file(
        self, item: MeasuredSet, index: int, key: ClassicFormat, setting: int
    ) -> KeptFile:
        codec = self.classics[key]
        name = f"{_folder(key, codec)}/{setting}/{item.about.digests[index]}{codec.suffix}"
        image = Image.fromarray(item.images[index])
        return self.kept.get(name, lambda: encode(image, key, setting).data)

    def _fill(
        self,
        filling: Filling,
        item: MeasuredSet,
        index: int,
        key: ClassicFormat,
        setting: int,
        quality: float,
    ) -> None:
        original = Image.fromarray(item.images[index])
        file = self._classic_file(item, index, key, setting)
        start = cpu_seconds()
        picture = ClassicFile(key, setting, file.data, original.size).decode()
        seconds = cpu_seconds() - start
        filling.add(file, seconds, self._values(item, index, original, picture, quality))

    # ------------------------------------------------------------------ measuring

    def _values(
        self,
        item: MeasuredSet,
        index: int,
        original: Image.Image,
        picture: Image.Image,
        quality: float,
    ) -> dict[str, Any]:
        values: dict[str, Any] = {m.info.name: m(original, picture) for m in self.measures}
        if item.tasks:
            x_hat = as_batch(picture).to(self.device)
            for task in item.tasks:
                values |= task.statistics(index, x_hat, quality)
        return values


def _source(codec: ClassicCodec) -> dict[str, Any]:
    return {"version": codec.version(), "options": dict(codec.options)}


def _folder(key: ClassicFormat, codec: ClassicCodec) -> str:
    return f"{key.lower()}-{key_of(_source(codec))}"


def _short_macs(codec: MPACodec, quality: float, mix: Mix) -> dict[str, float]:
    found = macs_per_pixel(codec.model, quality, mix)
    return {part: rounded(value) for part, value in found.items()}
