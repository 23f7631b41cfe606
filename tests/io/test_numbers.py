"""Pictures whose numbers are not 8-bit sRGB: right levels, a profile that says so, or a word."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from picture_files import chunk, gray_profile, png, srgb, tiff
from PIL import Image, ImageCms

from mpa_core.errors import ImageError, PictureWarning
from mpa_core.io.images import ImageInput, load_image, to_rgb_tensor

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
RAMP = np.array([0, 1, 2, 16, 64, 130, 200, 255])


def read(data: bytes) -> tuple[np.ndarray, ImageInput]:
    """Levels [W, 3] of the first row as the codec is given them, the same both ways."""
    found = to_rgb_tensor(load_image(io.BytesIO(data)))
    lazily = to_rgb_tensor(Image.open(io.BytesIO(data)))
    assert (lazily.tensor == found.tensor).all()
    assert lazily.icc_profile == found.icc_profile
    return (found.tensor[0, :, 0].T * 255).round().int().numpy(), found


def grays(data: bytes) -> list[int]:
    levels, found = read(data)
    assert found.icc_profile is None
    assert (levels == levels[:, :1]).all()
    return levels[:, 0].tolist()


def row(values, channels: int = 1) -> np.ndarray:
    return np.asarray(values).reshape(1, -1, channels)


def saved(image: Image.Image, form: str, **options) -> bytes:
    image.save(buffer := io.BytesIO(), form, **options)
    return buffer.getvalue()


def gray_png(*chunks: bytes) -> bytes:
    return png(8, 0, b"\0" + bytes(RAMP.tolist()), len(RAMP), *chunks)


def rgb_png(*chunks: bytes, level: int = 130) -> bytes:
    return png(8, 2, b"\0" + bytes([level, 20, 255]), 1, *chunks)


def gama(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">L", value))


def chrm(*values: int) -> bytes:
    return chunk(b"cHRM", struct.pack(">8L", *values))


def cicp(primaries: int, transfer: int, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, 0, full]))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def through_profile(profile: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    image = Image.new("RGB", (1, 1), colour)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    seen = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), intent)
    return np.asarray(seen)[0, 0].astype(int)


# ---------------------------------------------------------------------- samples


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_gray_tiff_of_any_depth_spans_black_to_white(bits):
    white = 2**bits - 1
    values = np.unique(np.linspace(0, white, 9).astype(int))
    expected = np.floor(values * 256 / (white + 1)) if bits >= 8 else values * (255 // white)
    assert grays(tiff(row(values), bits, 1)) == expected.tolist()


def test_packed_12_bit_ramp():
    # MaxSampleValue (281) is a statistic: it scales nothing.
    values = row([48, 2064, 3984, 4095])
    assert grays(tiff(values, 12, 1)) == [3, 129, 249, 255]
    assert grays(tiff(values, 12, 1, (281, 3, [3984]))) == [3, 129, 249, 255]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_white_is_zero(bits):
    white = 2**bits - 1
    values = np.unique(np.linspace(0, white, 5).astype(int))
    mirrored = tiff(row(white - values), bits, 1)
    assert grays(tiff(row(values), bits, 0)) == grays(mirrored)
    assert grays(tiff(row([0, white]), bits, 0)) == [255, 0]


@pytest.mark.parametrize("bits", [10, 14, 24])
def test_depths_that_pillow_does_not_read_are_refused(bits):
    with pytest.raises(ImageError):
        load_image(io.BytesIO(tiff(row([0, 1, 2, 3]), bits, 1)))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
def test_planes_of_a_tiff(bits, planar):
    wanted = [[10, 20, 30], [40, 50, 60]]
    file = tiff(row(wanted, 3) * (257 if bits == 16 else 1), bits, 2, planar=planar)
    if (bits, planar) == (16, 2):
        with pytest.raises(ImageError, match="separate planes"):
            read(file)
    else:
        assert read(file)[0].tolist() == wanted


@pytest.mark.parametrize(("bits", "expected"), [(8, "signed"), (16, "mode 'I'")])
def test_signed_samples_are_refused(bits, expected):
    with pytest.raises(ImageError, match=expected):
        read(tiff(row([1, 2]), bits, 1, (339, 3, [2])))


def test_other_inks_are_refused():
    with pytest.raises(ImageError, match="inks"):
        read(tiff(row([1, 2, 3, 4], 4), 8, 5, (332, 3, [2])))


@pytest.mark.parametrize(
    ("white", "values", "expected"),
    [
        (100, [0, 50, 100], [0, 128, 255]),
        (1023, [0, 512, 1023], [0, 128, 255]),
        (65535, [0, 0x80FF, 65535], [0, 128, 255]),
    ],
)
def test_white_of_a_pgm(white, values, expected):
    samples = b"".join(v.to_bytes(2 if white > 255 else 1, "big") for v in values)
    assert grays(f"P5 3 1 {white}\n".encode() + samples) == expected


@pytest.mark.parametrize("masks", [(0xF800, 0x07E0, 0x1F), (0x7C00, 0x03E0, 0x1F)])
def test_bitfields_of_a_bmp(masks):
    pixels = struct.pack("<2H", masks[0], masks[1] | masks[2])
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    head = b"BM" + struct.pack("<IHHI", 70, 0, 0, 66)
    file = head + info + struct.pack("<3I", *masks) + pixels
    assert read(file)[0].tolist() == [[255, 0, 0], [0, 255, 255]]


def test_16_bit_jpeg2000():
    image = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert set(grays(saved(image, "JPEG2000"))) == {128}


def test_significant_bits_of_a_png_scale_nothing():
    assert grays(gray_png(chunk(b"sBIT", b"\x05"))) == RAMP.tolist()


# ---------------------------------------------------------------------- tone curves and primaries


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_gray_profile_is_converted(form):
    """A gray WebP is RGB to Pillow, for which a gray profile is not meant."""
    image, linear = Image.new("L", (8, 8), 130), gray_profile(1.0)
    options = {"lossless": True} if form == "WEBP" else {}
    file = saved(image, form, icc_profile=linear, **options)
    if form == "WEBP":
        with pytest.warns(PictureWarning, match="ICC profile for GRAY"):
            assert to_rgb_tensor(load_image(io.BytesIO(file))).icc_profile is None
    else:
        assert set(grays(file)) == {189}


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.5])
def test_gray_profile_over_the_whole_ramp(gamma):
    levels = grays(gray_png(iccp(gray_profile(gamma))))
    # The profile has the exponent in 256ths.
    wanted = srgb((RAMP / 255) ** (round(gamma * 256) / 256))
    assert np.abs(levels - wanted).max() <= 1


def test_16_bit_gray_keeps_its_shadows():
    values = np.array([0, 20, 100, 300, 1000, 65535])
    rows = b"\0" + values.astype(">u2").tobytes()
    wanted = srgb(values / 65535)
    for said in (iccp(gray_profile(1.0)), gama(100000)):
        assert np.abs(grays(png(16, 0, rows, 6, said)) - wanted).max() <= 1
    white_is_zero = tiff(row(65535 - values), 16, 0, (34675, 7, list(gray_profile(1.0))))
    assert np.abs(grays(white_is_zero) - wanted).max() <= 1


@pytest.mark.parametrize("gamma", [100000, 55556, 40000])
def test_gamma_of_a_png_is_converted(gamma):
    power = 100000 / gamma
    assert grays(gray_png(gama(gamma))) == srgb((RAMP / 255) ** power).tolist()
    levels, found = read(rgb_png(gama(gamma), chrm(*SRGB_CHRM)))
    assert levels[0].tolist() == srgb((np.array([130, 20, 255]) / 255) ** power).tolist()
    assert found.icc_profile is None


def test_gamma_leaves_alpha_and_background():
    clear = png(8, 6, b"\0" + bytes([130, 130, 130, 255, 9, 9, 9, 0]), 2, gama(100000))
    assert read(clear)[0].tolist() == [[189] * 3, [255] * 3]
    palette = chunk(b"PLTE", bytes([130, 130, 130, 9, 9, 9]))
    indexed = png(8, 3, b"\0\0\1", 2, gama(100000), palette, chunk(b"tRNS", b"\xff\0"))
    assert read(indexed)[0].tolist() == [[189] * 3, [255] * 3]
    gray = png(8, 4, b"\0" + bytes([130, 255, 9, 0]), 2, gama(100000))
    assert read(gray)[0].tolist() == [[189] * 3, [255] * 3]


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(45455), chrm(*SRGB_CHRM)),
        (gama(45000),),
        (chrm(31269, 32899, 63999, 33001, 30000, 60000, 15000, 5999),),
        (chunk(b"sRGB", b"\0"), gama(100000), chrm(1, 2, 3, 4, 5, 6, 7, 8)),
        (cicp(1, 13), gama(100000)),
        (cicp(2, 2),),
        (cicp(1, 13), iccp(gray_profile(1.0))),
    ],
    ids=["both", "rounded", "chrm", "srgb first", "cicp first", "unspecified", "cicp before icc"],
)
def test_what_means_srgb_says_nothing(chunks):
    levels, found = read(rgb_png(*chunks))
    assert levels.tolist() == [[130, 20, 255]] and found.icc_profile is None


def test_a_profile_comes_before_gamma():
    _, found = read(rgb_png(iccp(SRGB), gama(100000)))
    assert found.icc_profile == SRGB


@pytest.mark.parametrize(
    ("said", "power"),
    [
        ((chrm(*(round(v * 100000) for v in P3)),), None),
        ((chrm(*(round(v * 100000) for v in P3)), gama(100000)), 1.0),
        ((cicp(12, 13),), None),
        ((cicp(12, 4),), 2.2),
        ((cicp(12, 8), iccp(SRGB)), 1.0),
    ],
)
def test_other_primaries_are_carried_as_a_profile(said, power):
    levels, found = read(rgb_png(*said))
    assert levels.tolist() == [[130, 20, 255]] and found.icc_profile is not None
    # P3 and sRGB have the same white: one matrix (Display P3 to linear sRGB) says it all.
    matrix = np.array([[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0983]])
    # A colour inside of sRGB, so that nothing is clipped.
    colour = np.array([150, 140, 120]) / 255
    linear = ((colour + 0.055) / 1.055) ** 2.4 if power is None else colour**power
    wanted = srgb(matrix @ linear)
    assert np.abs(through_profile(found.icc_profile, (150, 140, 120)) - wanted).max() <= 1
    assert through_profile(found.icc_profile, (255, 255, 255)).tolist() == [255, 255, 255]


def test_primaries_with_another_white_are_adapted():
    ntsc = cicp(4, 4)  # white C
    profile = read(rgb_png(ntsc))[1].icc_profile
    assert profile is not None
    assert np.abs(through_profile(profile, (255, 255, 255)) - 255).max() <= 1
    gray = through_profile(profile, (128, 128, 128))
    assert np.abs(gray - srgb(np.array([(128 / 255) ** 2.2] * 3))).max() <= 1


def test_primaries_of_a_tiff_are_carried():
    fractions = [(round(v * 10000), 10000) for v in P3]
    white, others = fractions[:2], fractions[2:]
    tags = [(318, 5, [n for f in white for n in f]), (319, 5, [n for f in others for n in f])]
    levels, found = read(tiff(row([130, 20, 255], 3), 8, 2, *tags))
    assert levels.tolist() == [[130, 20, 255]]
    assert found.icc_profile == read(rgb_png(cicp(12, 13)))[1].icc_profile


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (rgb_png(gama(0)), "gamma 0"),
        (rgb_png(chrm(*[0] * 8)), "span no colours"),
        (rgb_png(chrm(31270, 32900, *[30000, 30000] * 3)), "span no colours"),
        (rgb_png(cicp(1, 1)), "transfer function 1 "),
        (rgb_png(cicp(10, 13)), "primaries 10 "),
        (rgb_png(cicp(1, 13, full=0)), "narrow range"),
        (rgb_png(iccp(gray_profile(1.0))), "ICC profile for GRAY"),
        (rgb_png(iccp(SRGB[:400])), "damaged ICC profile"),
        (rgb_png(iccp(b"no profile")), "damaged ICC profile"),
        (rgb_png(iccp(SRGB[:12] + b"link" + SRGB[16:])), "class link"),
        (rgb_png(chunk(b"iCCP", b"name\0\0no zlib")), "damaged ICC profile"),
        (gray_png(iccp(SRGB[:16] + b"GRAY" + SRGB[20:])), "damaged ICC profile"),
        (tiff(row([130, 20, 255], 3), 8, 2, (301, 3, [0] * 256)), "TransferFunction"),
        (tiff(row([130]), 8, 1, (291, 3, [0] * 256)), "GrayResponseCurve"),
        (tiff(row([130, 20, 255], 3), 8, 2, (318, 5, [1, 3] * 2), (319, 5, [1, 3] * 6)), "span"),
    ],
)
def test_what_cannot_be_followed_is_said(file, expected):
    with pytest.warns(PictureWarning, match=expected) as caught:
        found = to_rgb_tensor(load_image(io.BytesIO(file)))
    assert "\n" not in str(caught[0].message) and found.icc_profile is None
    assert round(float(found.tensor.flatten()[5 if file[24:26] == b"\x08\0" else 0] * 255)) == 130


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer, name):
    with pytest.raises(ImageError, match=f"{name}, says its cICP.*tone-map"):
        read(rgb_png(cicp(9, transfer)))


# ---------------------------------------------------------------------- boxes and BMP


def avif(primaries: int, transfer: int) -> bytes:
    """An AVIF with another nclx box than Pillow writes."""
    data = bytearray(saved(Image.new("RGB", (16, 16), (130, 130, 130)), "AVIF", quality=100))
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">2H", primaries, transfer)
    return bytes(data)


def test_avif_says_its_colours():
    assert read(avif(1, 13))[1].icc_profile is None
    assert read(avif(12, 13))[1].icc_profile == read(rgb_png(cicp(12, 13)))[1].icc_profile
    levels, found = read(avif(1, 8))
    assert np.abs(levels - 189).max() <= 1 and found.icc_profile is None
    with pytest.raises(ImageError, match="HDR"):
        read(avif(9, 16))
    with pytest.warns(PictureWarning, match="transfer function 1 .nclx"):
        to_rgb_tensor(load_image(io.BytesIO(avif(1, 1))))


def jpeg2000(image: Image.Image, colour: bytes) -> bytes:
    """A JP2 file with another colour specification."""
    data = saved(image, "JPEG2000")
    at = data.index(b"colr") - 4
    old = struct.unpack_from(">L", data, at)[0]
    box = struct.pack(">L4s", 8 + len(colour), b"colr") + colour
    outer = data.index(b"jp2h") - 4
    size = struct.unpack_from(">L", data, outer)[0] + len(box) - old
    return data[:outer] + struct.pack(">L", size) + data[outer + 4 : at] + box + data[at + old :]


def test_jpeg2000_says_its_colours():
    image = Image.new("RGB", (16, 16), (130, 20, 255))
    assert read(jpeg2000(image, b"\1\0\0" + struct.pack(">L", 16)))[1].icc_profile is None
    assert read(jpeg2000(image, b"\2\0\0" + SRGB))[1].icc_profile == SRGB
    gray = jpeg2000(Image.new("L", (16, 16), 130), b"\2\0\0" + gray_profile(1.0))
    assert set(grays(gray)) == {189}
    with pytest.warns(PictureWarning, match="colour space of a JPEG 2000"):
        to_rgb_tensor(load_image(io.BytesIO(jpeg2000(image, b"\1\0\0" + struct.pack(">L", 20)))))


def bmp(space: int, profile: bytes = b"", ends=(0,) * 9, gammas=(0,) * 3) -> bytes:
    """One pixel with the header of version 5."""
    info = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(16)
    info += struct.pack("<L9l3L", space, *ends, *gammas)
    info += struct.pack("<4L", 4, 124 + 4, len(profile), 0)
    head = b"BM" + struct.pack("<IHHI", 14 + 128 + len(profile), 0, 0, 14 + 124)
    return head + info + bytes([255, 20, 130, 0]) + profile


def test_bmp_says_its_colours():
    for space in (0x73524742, 0x57696E20, 0):
        levels, found = read(bmp(space))
        assert levels.tolist() == [[130, 20, 255]] and found.icc_profile is None
    assert read(bmp(0x4D424544, SRGB))[1].icc_profile == SRGB
    srgb_ends = [v for x, y in ((64, 33), (30, 60), (15, 6)) for v in (x, y, 100 - x - y)]
    assert read(bmp(0, ends=srgb_ends, gammas=(29789,) * 3))[1].icc_profile is None
    for file, expected in [
        (bmp(0x4C494E4B), "linked"),
        (bmp(0, ends=srgb_ends[::-1]), "end points"),
        (bmp(0, gammas=(65536,) * 3), "gamma of a calibrated"),
    ]:
        with pytest.warns(PictureWarning, match=expected):
            to_rgb_tensor(load_image(io.BytesIO(file)))


# ---------------------------------------------------------------------- LAB and CMYK


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize(("lightness", "wanted"), [(255, 255), (0, 0), (128, 119)])
def test_lab_with_its_profile_is_converted(lightness, wanted):
    # L* 50 is a luminance of 0.1842, which sRGB writes as 119.
    file = tiff(row([lightness, 0, 0], 3), 8, 8, (34675, 7, list(LAB)))
    levels, found = read(file)
    assert np.abs(levels - wanted).max() <= 1 and found.icc_profile is None


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
@pytest.mark.parametrize("profile", [None, SRGB, b"junk"])
def test_without_their_profile_they_are_refused(mode, profile):
    image = Image.new(mode, (2, 2))
    if profile is not None:
        image.info["icc_profile"] = profile
    with pytest.raises(ImageError, match=f"the image is {mode} without a profile") as caught:
        to_rgb_tensor(image)
    assert "\n" not in str(caught.value)


def cmyk_profile() -> bytes:
    """ICC of version 2: a table of 2 points an ink to LAB, which says (1 - k)(1 - (c + m + y) / 3).

    Paper is L* 100, any full ink alone takes a third of it, black all.
    """
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    values = [(0xFF00 * (1 - k) * (3 - c - m - y) // 3, 0x8000, 0x8000) for c, m, y, k in corners]
    table = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0])
    table += struct.pack(">9l", *(65536 * (i % 4 == 0) for i in range(9)))
    table += struct.pack(">2H", 2, 2) + struct.pack(">2H", 0, 65535) * 4
    table += b"".join(struct.pack(">3H", *v) for v in values) + struct.pack(">2H", 0, 65535) * 3
    table += bytes(-len(table) % 4)
    white = b"XYZ \0\0\0\0" + struct.pack(">3l", 63190, 65536, 54061)
    tags = {b"A2B0": table, b"wtpt": white}
    place, index, body = 132 + 12 * len(tags), struct.pack(">L", len(tags)), b""
    for name, data in tags.items():
        index += struct.pack(">4s2L", name, place + len(body), len(data))
        body += data
    head = bytearray(128)
    struct.pack_into(">L", head, 0, place + len(body))
    head[8:24] = struct.pack(">L", 0x02100000) + b"prtrCMYKLab "
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3l", 63190, 65536, 54061)
    return bytes(head) + index + body


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_with_its_profile_is_converted(form):
    """Pillow undoes the inversion of Adobe's CMYK JPEG; the profile sees inks, as it should."""
    for inks, wanted in [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((255, 0, 0, 0), 162)]:
        # L* 66.7 is a luminance of 0.3619, which sRGB writes as 162.
        file = saved(Image.new("CMYK", (8, 8), inks), form, icc_profile=cmyk_profile())
        levels, found = read(file)
        assert np.abs(levels - wanted).max() <= 1 and found.icc_profile is None


def test_headers_survive_what_is_done_to_a_loaded_picture():
    picture = load_image(io.BytesIO(gray_png(iccp(gray_profile(1.0)))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = to_rgb_tensor(picture.crop((5, 0, 6, 1)))
    assert round(float(cut.tensor[0, 0, 0, 0] * 255)) == 189
