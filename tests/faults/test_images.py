"""Image files of every kind that can go wrong: each is used right, or named, or passed over."""

import io
import os
import shutil
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from conftest import save_images
from PIL import Image

import my_dataset
from common_tools import RunError
from machinery import packing
from my_dataset import CelebADataset, face_transform, load_faces

SIDE = 32
GRADIENT = np.linspace(0, 255, 48 * 40).reshape(48, 40).astype(np.uint8)
NAMED, PASSED_OVER = "named", "passed over"


def picture(mode="RGB", size=(40, 48)):
    return Image.fromarray(GRADIENT).resize(size).convert(mode)


def png(image, kind="PNG", **options):
    """An image's file, a PNG unless another kind is named."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(image, **options):
    return png(image, "JPEG", quality=95, **options)


def huge():
    """A PNG that says to have 60,000 x 60,000 pixels."""
    data = bytearray(png(picture()))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def turned(kind="JPEG"):
    """A photo that a camera held upright: to be turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return png(picture().transpose(Image.Transpose.ROTATE_90), kind, exif=exif)


PLAIN = jpeg(picture())

# name -> the file, and what becomes of it: the image that it is used as, or NAMED, or PASSED_OVER
FILES = {
    "empty.jpg": (b"", NAMED),
    "cut short.jpg": (PLAIN[: len(PLAIN) // 2], NAMED),
    "cut short.png": (png(picture())[:-60], NAMED),
    "a text.jpg": (b"no image at all", NAMED),
    "a page.png": (b"<html>404 not found</html>", NAMED),
    "zeros.webp": (bytes(1000), NAMED),
    "60,000 x 60,000.png": (huge(), NAMED),
    "notes.txt": (b"not for us", PASSED_OVER),
    ".hidden.jpg": (PLAIN, PASSED_OVER),
    "__MACOSX/._a.jpg": (b"not for us", PASSED_OVER),
    "a png.jpg": (png(picture()), picture()),
    "CMYK.jpg": (jpeg(picture("CMYK")), picture()),
    "gray.jpg": (jpeg(picture("L")), picture()),
    "16-bit gray.png": (png(Image.fromarray(GRADIENT.astype(np.uint16) * 257)), picture()),
    "one bit.png": (png(picture("1")), picture("1")),
    "palette.png": (png(picture("P")), picture()),
    "palette, transparent.png": (
        png(picture("P"), transparency=200),
        Image.fromarray(np.where(GRADIENT == 200, 255, GRADIENT).astype(np.uint8)),
    ),
    "gray, alpha.png": (png(picture("LA")), picture()),
    "all transparent.png": (png(Image.new("RGBA", (40, 48))), Image.new("L", (40, 48), "white")),
    "animated.webp": (png(picture(), "WEBP", save_all=True, lossless=True), picture()),
    "turned.jpg": (turned(), picture()),
    "1 x 1.png": (png(picture(size=(1, 1))), picture(size=(1, 1))),
    "20,000 x 1.png": (png(picture(size=(20_000, 1))), picture(size=(20_000, 1))),
    "first of three.gif": (
        png(picture(), "GIF", save_all=True, append_images=[picture("1"), picture("1")]),
        picture(),
    ),
    "transparent.gif": (
        png(Image.new("P", (40, 48)), "GIF", transparency=0),
        Image.new("L", (40, 48), "white"),
    ),
    "pages.tif": (png(picture(), "TIFF", save_all=True, append_images=[picture("1")]), picture()),
    "CMYK, LZW.tiff": (png(picture("CMYK"), "TIFF", compression="tiff_lzw"), picture()),
    "16-bit.tif": (png(Image.fromarray(GRADIENT.astype(np.uint16) * 257), "TIFF"), picture()),
    "turned.tif": (turned("TIFF"), picture()),
    "0 to 1.tif": (png(Image.fromarray(GRADIENT / np.float32(255)), "TIFF"), NAMED),
    "32-bit.tif": (png(Image.fromarray(GRADIENT.astype(np.int32) * 2**20), "TIFF"), NAMED),
    "32-bit, small.tif": (png(Image.fromarray(GRADIENT.astype(np.int32)), "TIFF"), NAMED),
    "signed.tif": (png(Image.fromarray(GRADIENT.astype(np.int32) - 9), "TIFF"), NAMED),
    "color.ppm": (png(picture(), "PPM"), picture()),
    "16-bit.pgm": (png(Image.fromarray(GRADIENT.astype(np.uint16) * 257), "PPM"), picture()),
    "from a browser.jfif": (PLAIN, picture()),
    "old.jpe": (PLAIN, picture()),
    "phone.HEIC": (PLAIN, PASSED_OVER),
    "UPPER.JPG": (PLAIN, picture()),
    "folder/of/folders/a.jpg": (PLAIN, picture()),
    "a directory.jpg/a.jpg": (PLAIN, picture()),
    "脸 ñ é.jpg": (PLAIN, picture()),
    f"{'long' * 60}.jpg": (PLAIN, picture()),
}


def assert_used_right(data_dir, cache_dir, capsys, files):
    """The images of files are packed as they are meant, and of all others the user is told."""
    named = sorted(name for name, (_, outcome) in files.items() if outcome == NAMED)
    used = {name: image for name, (_, image) in files.items() if isinstance(image, Image.Image)}
    with pytest.raises(RunError, match=rf"{len(named)} of .* cannot be read: .*--skip-bad-images"):
        load_faces(data_dir, cache_dir, SIDE)
    images, _ = load_faces(data_dir, cache_dir, SIDE, skip_bad_images=True)
    printed = capsys.readouterr().out
    assert f"{len(named)} of {len(named) + len(images)} images" in printed
    assert f"Passed over in {data_dir}: 1 .heic" in printed
    dataset = CelebADataset(data_dir, None)
    about = packing.open_packed(next(cache_dir.iterdir()))[1]
    assert sorted(about["unreadable"]) == named
    names = [name for name in dataset.names if name not in named]
    assert set(used) <= set(names)
    transform = face_transform(SIDE)
    for name, pixels in zip(names, images, strict=True):
        if name in used:
            expected = transform(used[name].convert("RGB")).permute(1, 2, 0).numpy() * 127.5 + 127.5
            assert np.abs(pixels - expected).mean() < 4, name


def test_bad_files_among_a_thousand(tmp_path, capsys):
    folder = save_images(tmp_path / "faces", 1000, suffix=".jpg")
    for name, (data, _) in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    os.symlink("nowhere.jpg", folder / "dangling.jpg")
    files = {**FILES, "dangling.jpg": (b"", NAMED)}
    assert_used_right(folder, tmp_path / "cache", capsys, files)


def test_bad_files_in_a_zip(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (data, _) in FILES.items():
            archive.writestr(name, data)
        archive.writestr("../above.jpg", PLAIN)
        archive.writestr("4 GB.jpg", PLAIN)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("gray.jpg", png(picture()))  # the later one counts
        with archive.open("zip64.jpg", "w", force_zip64=True) as member:
            member.write(PLAIN)
        archive.writestr("encrypted.jpg", PLAIN)
        archive.getinfo("encrypted.jpg").flag_bits |= 1
        archive.getinfo("4 GB.jpg").file_size = 2**32 - 2
    files = {
        **FILES,
        "../above.jpg": (PLAIN, PASSED_OVER),
        "zip64.jpg": (PLAIN, picture()),
        "encrypted.jpg": (PLAIN, NAMED),
        "4 GB.jpg": (PLAIN, NAMED),
    }
    before = set(tmp_path.parent.iterdir())
    assert_used_right(tmp_path / "faces.zip", tmp_path / "cache", capsys, files)
    assert set(tmp_path.parent.iterdir()) == before


def test_a_file_that_is_deleted_while_it_is_to_be_packed_is_named(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "faces", 20)
    decode = packing.decode

    def deleting(dataset, indices):
        (folder / "007.png").unlink()
        return decode(dataset, indices)

    monkeypatch.setattr(packing, "decode", deleting)
    with pytest.raises(
        RunError, match=r"1 of 20 images in .* cannot be read: 1 not there \(007\.png\)"
    ):
        load_faces(folder, tmp_path / "cache", SIDE)


def test_a_cache_of_other_images_or_another_version_is_packed_again(tmp_path, capsys, monkeypatch):
    folder, cache = save_images(tmp_path / "faces", 5), tmp_path / "cache"
    expected = np.array(load_faces(folder, cache, SIDE)[0])
    (path,) = cache.iterdir()
    others = save_images(tmp_path / "others", 9, size=(48, 40))
    load_faces(others, tmp_path / "cache of others", SIDE)
    shutil.copy(next((tmp_path / "cache of others").iterdir()), path)
    assert (load_faces(folder, cache, SIDE)[0] == expected).all()
    assert (
        f"{path} is damaged or of other images (it was packed as others" in capsys.readouterr().out
    )
    monkeypatch.setattr(my_dataset, "PACKING", my_dataset.PACKING + 1)
    assert (load_faces(folder, cache, SIDE)[0] == expected).all()
    assert len(list(cache.iterdir())) == 2


def in_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("secret.png", PLAIN)
        archive.getinfo("secret.png").flag_bits |= 1
        archive.writestr("crc.png", PLAIN)
        archive.getinfo("crc.png").CRC ^= 1
    return path


def in_folder(path, files):
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    os.symlink("nowhere.jpg", path / "link.jpg")
    os.symlink("nowhere", path / "mount")
    return path


@pytest.mark.parametrize(
    ("put", "others"),
    [
        (in_zip, "1 damaged in the zip (crc.png), 1 encrypted (secret.png)"),
        (in_folder, "1 folder that cannot be opened (mount/), 1 not there (link.jpg)"),
    ],
)
def test_bad_images_are_told_by_what_is_wrong(tmp_path, monkeypatch, capsys, put, others):
    """In the same words at the second start; and what Pillow warns of is used without a word."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    monkeypatch.setattr(my_dataset, "MAX_FILE", 2**20)
    files = {f"{letter}.jpg": b"no image" for letter in "efgh"}
    files |= {"cut.jpg": PLAIN[:-99], "cut.png": png(picture())[:-60], "empty.jpg": b""}
    files |= {"large.bmp": png(picture(size=(800, 800)), "BMP"), "turned.jpg": turned()}
    files |= {
        "pixels.png": png(picture(size=(100, 100))),
        "warned of.png": png(picture("L", (60, 50))),
    }
    files["floats.tif"] = png(picture("F"), "TIFF")
    data_dir = put(tmp_path / "faces", files)
    kinds = "4 of an unknown format (e.jpg, f.jpg, g.jpg, ...), 2 cut short (cut.jpg, cut.png), "
    for start in ("first", "second"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            images, _ = load_faces(data_dir, tmp_path / "cache", SIDE, skip_bad_images=True)
        assert len(images) == 2, start
        printed = capsys.readouterr().out
        assert f"12 of 14 images in {data_dir} cannot be read: {kinds}" in printed
        for kind in (*others.split(", "), "1 empty (empty.jpg)"):
            assert kind in printed
        assert "1 of 32-bit or signed pixels (floats.tif)" in printed
        assert "1 larger than 1 MB (large.bmp: 2 MB)" in printed
        assert "1 of more than 4,000 pixels (pixels.png: 10,000)" in printed


def test_names_that_are_no_text_are_told_too(tmp_path, capsys):
    folder = save_images(tmp_path / "faces", 8)
    try:
        (folder / os.fsdecode(b"\xff\n.jpg")).write_bytes(b"no image")
    except OSError:
        pytest.skip("names are always text here")
    assert len(load_faces(folder, tmp_path / "cache", SIDE, skip_bad_images=True)[0]) == 8
    printed = capsys.readouterr().out.encode().decode()  # as a terminal takes it
    assert printed.count("\n") == 1 and "(\\udcff .jpg)" in printed


def test_links_to_folders_are_followed_once_and_never_in_a_circle(tmp_path):
    faces, outside = save_images(tmp_path / "faces/real", 2).parent, tmp_path / "outside"
    save_images(outside / "more", 1)
    links = {"b": outside, "a": outside / "more", "to_real": faces / "real", "circle": faces}
    for name, target in links.items():
        os.symlink(target, faces / name)
    os.symlink("here.jpg", faces / "here.jpg")  # to itself
    os.symlink(faces, outside / "back")
    os.symlink(outside / "more/000.png", outside / "a link.png")
    names = ["a/000.png", "b/a link.png", "here.jpg", "real/000.png", "real/001.png"]
    assert CelebADataset(faces, None).names == names
    os.makedirs(tmp_path / "only links")
    os.symlink(faces / "real", tmp_path / "only links/a")
    assert len(load_faces(tmp_path / "only links", tmp_path / "cache", SIDE)[0]) == 2


def forbid(monkeypatch, folder):
    """Make a folder one that may not be listed, for the superuser too."""
    scandir = os.scandir

    def forbidding(path):
        if os.path.normpath(path) == os.path.normpath(folder):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)


def test_a_folder_that_may_not_be_opened_is_named_unless_it_is_hidden(
    tmp_path, monkeypatch, capsys
):
    disk, cache = save_images(tmp_path / "disk", 8), tmp_path / "cache"
    fingerprint = CelebADataset(disk, None).fingerprint()
    (disk / ".Trash-0").mkdir()
    (disk / "lost+found").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        forbid(patch, disk / ".Trash-0")
        assert len(load_faces(disk, cache, SIDE)[0]) == 8
    forbid(monkeypatch, disk / "lost+found")
    with pytest.raises(
        RunError, match=r"1 of 9 .* 1 folder that cannot be opened \(lost\+found/\)"
    ):
        load_faces(disk, cache, SIDE)
    images, same = load_faces(disk, cache, SIDE, skip_bad_images=True)
    assert len(images) == 8 and same == fingerprint
    assert "lost+found/" in capsys.readouterr().out
