import hashlib
import struct
import subprocess
import zlib
from contextlib import suppress
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageOps

from fewlabels import files
from fewlabels.data import chest_xray, photographs
from fewlabels.data.photographs import squeezed
from fewlabels.data.reading import SUFFIXES, images_in, read
from fewlabels.errors import UserError

CLASSES = ("disc", "square")


def picture(width=40, height=30, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def same(image, other):
    return np.array_equal(np.asarray(image), np.asarray(other))


# Single files


def test_a_plain_file_is_read_as_it_is(tmp_path):
    picture().save(tmp_path / "x.png")
    found = read(tmp_path / "x.png")
    assert same(found.image, picture())
    assert (found.grey, found.turned, found.transparent) == (False, False, False)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_a_grey_file_becomes_rgb_and_is_known_as_grey(tmp_path, mode):
    picture().convert("L").convert(mode).save(tmp_path / "x.png")
    found = read(tmp_path / "x.png")
    assert found.grey
    assert found.image.mode == "RGB"
    red, green, blue = found.image.split()
    assert same(red, green) and same(green, blue)


def test_sixteen_bits_keep_their_order_of_brightness(tmp_path):
    values = np.linspace(0, 65535, 20 * 20).astype(np.uint16).reshape(20, 20)
    Image.fromarray(values).save(tmp_path / "x.png")
    found = np.asarray(read(tmp_path / "x.png").image)[:, :, 0]
    assert np.array_equal(found, values >> 8)
    assert read(tmp_path / "x.png").grey


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_entry_is_followed(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "x.png", exif=exif)
    found = read(tmp_path / "x.png")
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = picture().transpose(turn[orientation]) if orientation > 1 else picture()
    assert same(found.image, upright)
    assert found.turned == (orientation > 1)


def test_transparent_pixels_show_white_by_their_share(tmp_path):
    image = Image.new("RGBA", (20, 20), (100, 0, 0, 255))
    image.putpixel((0, 0), (100, 0, 0, 0))
    image.putpixel((1, 0), (100, 0, 0, 128))
    image.save(tmp_path / "x.png")
    found = read(tmp_path / "x.png")
    assert found.transparent
    assert found.image.getpixel((0, 0)) == (255, 255, 255)
    assert found.image.getpixel((5, 5)) == (100, 0, 0)
    red, green, _ = found.image.getpixel((1, 0))
    assert abs(red - 177) <= 1 and abs(green - 127) <= 1


def test_a_palette_with_a_transparent_colour_is_read(tmp_path):
    image = picture().convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "x.png", transparency=image.getpixel((0, 0)))
    found = read(tmp_path / "x.png")
    assert found.image.getpixel((0, 0)) == (255, 255, 255)
    assert found.transparent


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    picture().convert("RGBA").save(tmp_path / "x.png")
    found = read(tmp_path / "x.png")
    assert same(found.image, picture())
    assert not found.transparent


def test_other_kinds_of_files_are_read(tmp_path):
    picture().convert("CMYK").save(tmp_path / "x.jpg")
    assert read(tmp_path / "x.jpg").image.mode == "RGB"
    frames = [picture(seed=k) for k in range(3)]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert same(read(tmp_path / "x.webp").image, frames[0])


def refused(path, told):
    with pytest.raises(UserError, match=told) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "x.jpg").write_text("not an image")
    refused(tmp_path / "x.jpg", "no image that can be read")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "no image")
    refused(tmp_path / "gone.png", "is not there")
    refused(tmp_path, "is a folder")


EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"


def test_no_file_starts_another_program(tmp_path, monkeypatch):
    """A picture that Pillow hands to Ghostscript, which is a small computer of its own."""
    started = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "x.jpg").write_text(EPS)
    with Image.open(tmp_path / "x.jpg") as image, suppress(subprocess.CalledProcessError):
        image.load()
    assert started.exists()
    started.unlink()
    refused(tmp_path / "x.jpg", "no image that can be read")
    with pytest.raises(UserError, match=r"x\.jpg is no image that can be read"):
        chest_xray._grey(tmp_path / "x.jpg")
    assert not started.exists()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "ppm", "avif"])
def test_the_common_kinds_of_files_are_read(tmp_path, suffix):
    picture().save(tmp_path / f"x.{suffix}")
    assert read(tmp_path / f"x.{suffix}").image.size == (40, 30)


def test_a_truncated_image_is_refused(tmp_path):
    picture(200, 200).save(tmp_path / "x.jpg")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "x.jpg", "damaged")


@pytest.mark.parametrize("suffix", ["avif", "tiff"])
def test_a_byte_that_was_changed_is_told_as_damage_or_not_at_all(tmp_path, suffix, recwarn):
    path = tmp_path / f"x.{suffix}"
    picture().save(path)
    content = path.read_bytes()
    for at in range(0, 400, 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        with suppress(UserError):
            read(path)
    assert not recwarn.list


def png_of(width, height):
    """A PNG of a few bytes that claims to be of any size."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7_100, 10_000, 60_000])
def test_a_huge_image_is_refused_before_it_is_unpacked(tmp_path, side, recwarn):
    (tmp_path / "x.png").write_bytes(png_of(side, side))
    refused(tmp_path / "x.png", "50,000,000")
    assert not recwarn.list


def test_an_image_of_a_few_pixels_is_refused(tmp_path):
    picture(100, 15).save(tmp_path / "x.png")
    refused(tmp_path / "x.png", "100 x 15")


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("x.png", lambda ramp, path: Image.fromarray(ramp).save(path)),
        ("x.tiff", lambda ramp, path: Image.fromarray(ramp).save(path)),
        ("big-endian.tiff", lambda ramp, path: Image.fromarray(ramp.astype(">u2")).save(path)),
        ("x.pgm", lambda ramp, path: path.write_bytes(b"P5 64 64 65535\n" + big(ramp))),
        ("12 bits.pgm", lambda ramp, path: path.write_bytes(b"P5 64 64 4095\n" + big(ramp >> 4))),
        ("12 bits.tiff", lambda ramp, path: path.write_bytes(tiff(ramp >> 4, bits=12))),
        ("white is 0.tiff", lambda ramp, path: path.write_bytes(tiff(65535 - ramp, white=0))),
        ("x.jpg", lambda ramp, path: Image.fromarray((ramp >> 8).astype(np.uint8)).save(path)),
    ],
)
@pytest.mark.parametrize("reader", [lambda path: np.asarray(read(path).image), chest_xray._grey])
def test_a_ramp_of_any_depth_has_the_mean_of_a_ramp(tmp_path, name, save, reader):
    ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    save(ramp, tmp_path / name)
    found = reader(tmp_path / name)
    assert found.dtype == np.uint8 and found.mean() == pytest.approx(127.5, abs=0.6)
    assert found.min() <= 1 and found.max() >= 254 and found[0, 0].max() < found[-1, -1].min()


def big(values):
    return values.astype(">u2").tobytes()


def tiff(values, bits=16, white=1):
    """A grey TIFF, little-endian, uncompressed; ``white``: its entry PhotometricInterpretation."""
    content = values.astype("<u2").tobytes()
    if bits == 12:  # Two values in three bytes, the first bits first.
        first, second = values.reshape(-1, 2).astype(int).T
        triples = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        content = np.stack(triples, axis=1).astype(np.uint8).tobytes()
    height, width = values.shape
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: white, 273: 8, 277: 1}
    entries |= {278: height, 279: len(content)}
    table = b"".join(struct.pack("<HHII", key, 4, 1, value) for key, value in entries.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    return head + content + struct.pack("<H", len(entries)) + table + bytes(4)


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_x_ray_is_turned_upright_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.tile(np.linspace(0, 255, 224).astype(np.uint8), (224, 1)))
    image.save(tmp_path / "x.png", exif=exif)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}[orientation]
    assert np.array_equal(chest_xray._grey(tmp_path / "x.png"), np.asarray(image.transpose(turn)))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "x.png", exif=exif)
    found = read(tmp_path / "x.png")
    assert same(found.image, picture()) and not found.turned


def test_inks_have_the_colours_that_they_print(tmp_path):
    inks = {"white": (0, 0, 0, 0), "black": (0, 0, 0, 255), "red": (0, 255, 255, 0)}
    for name, ink in inks.items():
        Image.new("CMYK", (32, 32), ink).save(tmp_path / f"{name}.jpg", quality=95)
    shown = {name: read(tmp_path / f"{name}.jpg").image.getpixel((9, 9)) for name in inks}
    for name, colour in {"white": (255,) * 3, "black": (0,) * 3, "red": (255, 0, 0)}.items():
        assert np.abs(np.subtract(shown[name], colour)).max() <= 3


def test_colours_of_an_unknown_kind_are_refused_by_name(tmp_path):
    Image.new("LAB", (20, 20)).save(tmp_path / "x.tiff")
    refused(tmp_path / "x.tiff", "colours of the kind LAB")


# Folders


@pytest.mark.parametrize("name", ["a.JPEG", "a.jpe", "a.PNG", "a.Tif"])
def test_no_ending_of_an_image_is_passed_over(tmp_path, name):
    picture().save(tmp_path / name, format="PNG")
    for litter in (".DS_Store", "._a.JPEG", "Thumbs.db", "desktop.ini"):
        (tmp_path / litter).write_bytes(b"litter")
    (tmp_path / "__MACOSX").mkdir()
    assert [path.name for path in images_in(tmp_path)] == [name]


@pytest.mark.parametrize("name", ["notes.txt", "a.jpg.part", "folder/", "a.jpeg/", "noending"])
def test_what_is_no_image_in_a_folder_of_images_is_refused_by_name(tmp_path, name):
    picture().save(tmp_path / "a.png")
    (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    (tmp_path / "zzz").touch()
    with pytest.raises(UserError, match=rf"{name.strip('/')} \(and 1 more\) is no image file"):
        images_in(tmp_path)


def test_every_ending_names_a_format_that_is_read():
    known = Image.registered_extensions()
    from fewlabels.data.reading import FORMATS

    assert {known[suffix] for suffix in SUFFIXES} == {*FORMATS}


def test_numbers_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.ones((20, 20), np.float32)).save(tmp_path / "x.tiff")
    refused(tmp_path / "x.tiff", "32-bit")


def test_squeezing_keeps_no_proportions_and_averages():
    image = Image.new("RGB", (64, 32), (255, 0, 0))
    image.paste((0, 0, 255), (32, 0, 64, 32))
    found = squeezed(image, 16)
    assert found.shape == (3, 16, 16) and found.dtype == torch.uint8
    assert found[0, :, :7].min() == 255 and found[2, :, 9:].min() == 255
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)))
    grey = squeezed(stripes.convert("RGB"), 16)
    assert (grey.float() - 127.5).abs().max() < 20


# The data set


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of six files where FEWLABELS_DATA says, which count as the official ones."""
    root = tmp_path / "caltech101" / "101_ObjectCategories"
    known = {}
    for name in ("cup", "lamp"):
        (root / name).mkdir(parents=True)
        for i in range(6):
            image = picture(30 + i, 40, seed=i)
            image = ImageOps.grayscale(image) if i == 0 else image
            image.save(root / name / f"image_{i:04}.jpg")
        lines = "".join(
            f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.name}\n"
            for p in sorted((root / name).iterdir())
        )
        known[name] = (6, hashlib.md5(lines.encode()).hexdigest())
    (root / "cup" / ".DS_Store").write_text("no image")
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    monkeypatch.setattr(photographs, "OFFICIAL", known)
    forget()
    yield root
    forget()


def forget():
    photographs.load.cache_clear()
    photographs.md5.cache_clear()


def test_caltech_is_read_from_its_folders(folder):
    found = photographs.load("caltech101", ("lamp", "cup"), 32)
    assert found.images.shape == (12, 3, 32, 32)
    assert found.labels.tolist() == [0] * 6 + [1] * 6
    assert found.files[0] == "lamp/image_0000.jpg" and found.files[-1] == "cup/image_0005.jpg"
    assert found.shapes[:6].tolist() == [[30 + i, 40] for i in range(6)]
    assert found.grey.tolist() == ([True] + [False] * 5) * 2
    assert not found.turned.any()
    _, label, one = photographs.decoded("caltech101", ("lamp", "cup"))[7]
    assert label == 1 and torch.equal(squeezed(one.image, 32), found.images[7])


def test_the_checksum_is_known_without_the_files(folder, monkeypatch):
    expected = photographs.load("caltech101", ("lamp", "cup"), 32).md5
    forget()
    monkeypatch.setenv("FEWLABELS_DATA", str(folder / "nowhere"))
    assert photographs.md5("caltech101", ("lamp", "cup")) == expected
    assert photographs.md5("caltech101", ("cup", "lamp")) != expected


def test_an_unpacking_that_was_cut_off_leaves_nothing_and_is_begun_again(tmp_path, monkeypatch):
    calls = []

    def unpack(root, download):
        calls.append(root)
        folder = root / "caltech101" / "101_ObjectCategories"
        for k in range(101 if len(calls) > 1 else 3):
            (folder / f"class {k}").mkdir(parents=True)
        if len(calls) == 1:
            raise OSError("cut off")

    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    monkeypatch.setattr(photographs, "Caltech101", unpack)
    with pytest.raises(UserError, match="cut off"):
        photographs._folder()
    assert list((tmp_path / "data").iterdir()) == []
    files._NOT_FETCHED.clear()  # As in another process.
    assert len(list(photographs._folder().iterdir())) == 101
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["caltech101"]
    photographs._folder()
    assert len(calls) == 2


@pytest.mark.parametrize("where", ["FEWLABELS_DATA", "cache"])
def test_a_half_made_folder_is_named_with_the_path_to_delete(tmp_path, monkeypatch, where):
    folder = tmp_path / "data" / "caltech101" / "101_ObjectCategories"
    folder.mkdir(parents=True)
    if where == "cache":
        monkeypatch.delenv("FEWLABELS_DATA", raising=False)
        (folder / "anchor").mkdir()
    else:
        monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    count = 1 if where == "cache" else 0
    told = rf"{folder} is incomplete, {count} of 101 classes lie in it: delete it"
    with pytest.raises(UserError, match=told):
        photographs._folder()


@pytest.mark.parametrize("change", ["missing file", "another file", "one more"])
def test_a_folder_that_is_not_official_is_refused(folder, change):
    path = folder / "cup" / "image_0003.jpg"
    if change == "missing file":
        path.unlink()
    elif change == "another file":
        picture(seed=99).save(path)
    else:
        picture(seed=99).save(folder / "cup" / "image_0009.jpg")
    with pytest.raises(UserError, match="is not the official folder") as error:
        photographs.load("caltech101", ("lamp", "cup"), 32)
    assert str(folder / "cup") in str(error.value)
    assert photographs.OFFICIAL["cup"][1] in str(error.value)


def test_other_classes_are_taken_with_the_checksum_they_have(folder, monkeypatch):
    monkeypatch.setattr(photographs, "OFFICIAL", {})
    before = photographs.md5("caltech101", ("cup", "lamp"))
    picture(seed=99).save(folder / "cup" / "image_0003.jpg")
    forget()
    assert photographs.md5("caltech101", ("cup", "lamp")) != before


def test_missing_classes_and_folders_are_named(folder, monkeypatch):
    with pytest.raises(UserError, match="it has: cup, lamp"):
        photographs.load("caltech101", ("cup", "sofa"), 32)
    monkeypatch.setenv("FEWLABELS_DATA", str(folder))
    with pytest.raises(UserError, match="unset"):
        photographs.load("caltech101", ("cup", "lamp"), 32)


def test_a_failed_download_names_the_remedies(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    monkeypatch.setattr(photographs, "Caltech101", offline)
    forget()
    with pytest.raises(UserError, match=r"no route.*FEWLABELS_DATA"):
        photographs.load("caltech101", ("accordion", "anchor"), 32)


@pytest.mark.parametrize(
    ("source", "classes", "size"),
    [
        ("imagenet", CLASSES, 32),
        ("shapes", ("disc",), 32),
        ("shapes", ("disc", "disc"), 32),
        ("shapes", ("disc", "star"), 32),
        ("caltech101", ("cup", "../lamp"), 32),
        ("shapes", CLASSES, 30),
        ("shapes", CLASSES, 8),
    ],
)
def test_what_cannot_be_loaded_is_refused(source, classes, size):
    with pytest.raises(UserError, match="allowed"):
        photographs.load(source, classes, size)


def test_drawn_shapes_are_the_same_every_time():
    first = photographs.load("shapes", CLASSES, 32)
    forget()
    again = photographs.load("shapes", CLASSES, 32)
    assert torch.equal(first.images, again.images)
    assert first.md5 == again.md5
    assert first.labels.bincount().tolist() == [photographs.SHAPES_PER_CLASS] * 2
    assert first.grey.any() and not first.grey.all()
