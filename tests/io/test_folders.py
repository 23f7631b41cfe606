"""Which files a folder stands for, and that what we wrote is never taken for an input."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mpa_core.errors import OutputError
from mpa_core.io.folders import (
    MARKER,
    PICTURE_SUFFIXES,
    PLUGIN_SUFFIXES,
    claim_output,
    find_files,
    picture_suffixes,
)

PNG = {".png"}
FOLDERS, FILES = "folders of mpa's output", "files of mpa's output"


def make(folder: Path, *names: str) -> Path:
    """Files below ``folder``; what is in them does not matter to a walk."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("._b.png", "hidden files"),
        (".b.png", "hidden files"),
        (".thumbnails/b.png", "hidden folders"),
        ("@eaDir/b.png", "system folders"),
        ("__MACOSX/b.png", "system folders"),
        ("deep/__MACOSX/b.png", "system folders"),
        ("lost+found/b.png", "system folders"),
        ("System Volume Information/b.png", "system folders"),
        ("b.txt", "other suffixes"),
        ("b", "other suffixes"),
        (f"run/{MARKER}", "folders of mpa's output"),
    ],
)
def test_what_is_left_out_is_counted(tmp_path, name, why):
    make(tmp_path, "a.png", name, "c/d.PNG")
    found = find_files(tmp_path, PNG)
    assert found.names == ["a.png", str(Path("c", "d.PNG"))]
    assert found.left_out == {why: 1}


@pytest.mark.parametrize("name", [".thumbnails", "@eaDir", "run"])
def test_a_folder_that_is_named_is_taken(tmp_path, name):
    make(tmp_path / name, "a.png", MARKER)
    found = find_files(tmp_path / name, PNG)
    assert (found.names, found.left_out) == (["a.png"], {})


def test_names_of_every_kind_in_an_order_of_their_own(tmp_path):
    composed = [unicodedata.normalize(form, "\u00e9.png") for form in ("NFC", "NFD")]
    names = [
        "B.png",
        "a.PNG",
        "f.png",
        "line\nbreak.png",
        "z.png",
        *composed,
        os.fsdecode(b"\xff.png"),
    ]
    make(tmp_path, *names, "b/a.png")
    found = find_files(tmp_path, PNG)
    # An accented letter sorts the same however it is stored: behind all of ASCII.
    first = ["B.png", "a.PNG", "f.png", "line\nbreak.png", "z.png"]
    expected = [*first, composed[1], composed[0], os.fsdecode(b"\xff.png")]
    assert found.names == [*expected, str(Path("b", "a.png"))]
    paths = [path.relative_to(tmp_path).as_posix() for path in found.paths()]
    assert paths == ["B.png", "a.PNG", "b/a.png", *expected[2:]]


def test_links_are_followed_once(tmp_path):
    elsewhere = make(tmp_path / "elsewhere", "e.png", "deep/f.png")
    folder = make(tmp_path / "in", "x/a.png", "x/b.png")
    (folder / "0-outside").symlink_to(elsewhere)
    (folder / "1-again").symlink_to(elsewhere)
    (folder / "2-inside").symlink_to(folder / "x")
    (folder / "3-up").symlink_to(tmp_path)
    (folder / "x" / "self").symlink_to(folder / "x")
    (elsewhere / "back").symlink_to(folder)
    (folder / "link.png").symlink_to(make(tmp_path, "single.png") / "single.png")
    (folder / "twice.png").symlink_to(folder / "x" / "a.png")
    (folder / "x" / "broken.png").symlink_to(tmp_path / "nothing.png")
    (folder / "disk").symlink_to(tmp_path / "not-mounted")
    (folder / "loop").symlink_to(folder / "loop")
    found = find_files(folder, PNG)
    assert [Path(name).as_posix() for name in found.names] == [
        "x/a.png", "x/b.png", "0-outside/e.png", "0-outside/deep/f.png",
        "link.png", "x/broken.png",
    ]  # fmt: skip
    assert found.left_out == {
        "links in a circle": 3,
        "links to what is there already": 3,
        "broken links": 2,
    }
    assert {Path(link).name for link in found.broken_links} == {"disk", "loop"}
    assert any(f"{folder}/disk is a link to nothing" in line for line in found.remarks())


def test_a_folder_that_may_not_be_read_is_said(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    make(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    try:
        found = find_files(tmp_path, PNG)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert found.names == ["a.png"]
    assert [folder for folder, _ in found.unreadable] == [str(tmp_path / "closed")]
    assert "cannot list the folder" in "".join(found.remarks())


def test_a_folder_that_is_gone_is_said(tmp_path):
    found = find_files(tmp_path / "gone", PNG)
    assert [folder for folder, _ in found.unreadable] == [str(tmp_path / "gone") + os.sep]


def test_pictures_are_what_pillow_reads():
    """Pillow's own list: a format that it learns must be decided upon here."""
    known = Image.registered_extensions()
    suffixes = {suffix for suffix, kind in known.items() if kind in Image.OPEN or kind == "MPO"}
    assert suffixes >= PICTURE_SUFFIXES
    documents = {".ps", ".eps", ".wmf", ".emf", ".psd", ".im", ".pcd"}
    moving = {".avifs", ".fli", ".flc", ".mpg", ".mpeg", ".dcx"}
    icons = {".ico", ".icns", ".cur", ".xbm", ".xpm", ".gbr", ".msp"}
    data = {".bufr", ".fit", ".fits", ".grib", ".h5", ".hdf", ".iim", ".pfm"}
    textures = {".blp", ".dds", ".ftc", ".ftu"}
    # Formats of old machines whose suffixes mean other things today.
    old = {".bw", ".rgb", ".rgba", ".sgi", ".ras", ".pcx", ".pxr", ".icb", ".vda", ".vst"}
    others = documents | moving | icons | data | textures | old | PLUGIN_SUFFIXES
    assert suffixes - PICTURE_SUFFIXES <= others


def test_a_plugins_pictures_are_taken_where_it_is_loaded(monkeypatch):
    monkeypatch.setattr(Image, "EXTENSION", {**Image.EXTENSION})
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    Image.EXTENSION.pop(".heic", None)
    assert ".heic" not in picture_suffixes()
    Image.register_open("HEIF", Image.OPEN["PNG"][0])
    Image.register_extension("HEIF", ".heic")
    assert ".heic" in picture_suffixes()


# ---------------------------------------------------------------------- our own output


@pytest.mark.parametrize(
    ("names", "taken", "why"),
    [
        (["results.json", "files/jpeg/a.png", "photos-psnr.png"], [], {FOLDERS, FILES}),
        (["config.yaml", "checkpoints/step-1/state", "samples/q1.png"], [], {FOLDERS}),
        # Somebody's pictures beside a run: its own folders alone are left out.
        (["results.json", "files/a.png", "photos/a.png"], ["photos/a.png"], {FOLDERS}),
        (["config.yaml", "samples/q1.png"], ["samples/q1.png"], set()),
        (["results.json", "a.png"], ["a.png"], set()),
    ],
)
def test_runs_without_a_marker_are_known_by_their_layout(tmp_path, names, taken, why):
    make(tmp_path, "own.png", *(f"run/{name}" for name in names))
    found = find_files(tmp_path, PNG)
    said = ["own.png", *(f"run/{name}" for name in taken)]
    assert [Path(name).as_posix() for name in found.names] == said
    assert set(found.left_out) - {"other suffixes"} == why


def test_an_output_folder_is_marked(tmp_path):
    photos = make(tmp_path / "photos", "a.png")
    claim_output(photos / "out" / "1", [photos])
    make(photos / "out" / "1", "made.png")
    found = find_files(photos, PNG)
    assert found.names == ["a.png"]
    assert found.outputs == [str(photos / "out" / "1")]
    claim_output(photos / "out" / "1", [photos])  # again, to go on
    assert find_files(photos, PNG) == found


def test_links_into_our_output_do_not_bring_it_back(tmp_path):
    photos = make(tmp_path / "photos", "a.png")
    claim_output(photos / "out", [photos])
    make(photos / "out", "files/made.png")
    (photos / "files").symlink_to(photos / "out" / "files")
    (photos / "made.png").symlink_to(photos / "out" / "files" / "made.png")
    found = find_files(photos, PNG)
    assert (found.names, found.left_out) == (["a.png"], {FOLDERS: 2, FILES: 1})
    # Within what was named they are links like any others.
    (photos / "out" / "link.png").symlink_to(tmp_path / "photos" / "a.png")
    assert len(find_files(photos / "out", PNG).names) == 2


def test_somebodys_folder_is_not_marked(tmp_path):
    photos = make(tmp_path / "photos", "a.png", "2020/b.png")
    for folder in (tmp_path, photos / "2020"):
        claim_output(folder, [tmp_path / "photos" / "2020" / "x"] if folder == tmp_path else [])
        assert not (folder / MARKER).exists()
    with pytest.raises(OutputError, match=r"holds pictures \(b.png\).*choose a new folder"):
        claim_output(photos / "2020", [photos])
    with pytest.raises(OutputError, match="is the folder of the input pictures"):
        claim_output(photos / "2020" / "..", [photos])
    assert len(find_files(tmp_path, PNG).names) == 2
