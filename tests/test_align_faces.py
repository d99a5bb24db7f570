"""From photos to faces: found, framed, told where from; and a run that nothing can spoil."""

import csv
import os
import shutil
import signal
import zipfile
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script
from PIL import Image, ImageFilter

import align_faces
from align_faces import (
    COLUMNS,
    FRAME,
    TEMPLATE,
    Config,
    align,
    cut,
    find_faces,
    frame_of,
    points_in,
    turn_of,
)
from common_tools import RunError
from gan_inference import to_pictures
from machinery.console import Stopped
from my_dataset import CelebADataset, load_faces
from sampling import draw_noise, find_checkpoint, generate, load_generator

EYES = TEMPLATE[:2]


@pytest.fixture(scope="session")
def faces():
    """Four faces that the released generator draws, as CelebA frames them: its rows 20 to 198."""
    generator = load_generator(*find_checkpoint(ROOT / "checkpoints"))
    drawn = generate(generator, next(draw_noise(64, 100, seed=1)))[[6, 33, 38, 53]]
    return list(to_pictures(drawn, FRAME[0]))


def put(photo, face, turn, shift):
    """Put a face into a photo so that (turn, shift) takes its frame there."""
    back, start = 1 / turn, -shift / turn - 20j
    matrix = (back.real, -back.imag, start.real, back.imag, back.real, start.imag)
    options = photo.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    photo.paste(face.transform(*options), mask=Image.new("L", face.size, 255).transform(*options))
    return photo


def plain(size=(600, 500)):
    return Image.new("RGB", size, (90, 120, 150))


def off(points, turn, shift):
    """How many pixels of the frame the eyes are brought back from where (turn, shift) took them."""
    new_turn, new_shift = frame_of(points)
    return abs(new_turn * (turn * EYES + shift) + new_shift - EYES).max()


def table(folder):
    with open(folder / "faces.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("scale", "degrees"), [(0.8, 0), (0.8, 25), (2, -25), (3, 10)])
def test_a_face_is_brought_back_to_where_it_was(faces, scale, degrees):
    for face in faces:
        turn = scale * np.exp(1j * np.radians(degrees))
        shift = 400 + 400j - turn * (89 + 109j)
        ((points, certainty),) = find_faces(put(plain((800, 800)), face, turn, shift))
        assert certainty > 0.9 and off(points, turn, shift) < 3


def test_what_is_cut_out_looks_like_the_face(faces):
    turn, shift = 3 * np.exp(0.3j), 300 + 50j
    cut_out = cut(put(plain((900, 900)), faces[0], turn, shift), 1 / turn, -shift / turn)
    assert cut_out.size == FRAME
    difference = np.asarray(cut_out, float)[30:190, 10:170] - np.asarray(faces[0])[10:170, 10:170]
    assert abs(difference).mean() < 2


def test_a_large_face_is_reduced_without_patterns():
    checks = np.indices((900, 900)).sum(0) % 2 * 255
    photo = Image.fromarray(np.repeat(checks[..., None], 3, 2).astype(np.uint8))
    for turn in (0.25, 0.22 + 0.1j):
        assert np.asarray(cut(photo, turn, 0)).std() < 8


def test_beyond_the_photo_its_edge_is_mirrored_and_softened():
    random = np.random.default_rng(1)
    photo = Image.fromarray(random.integers(100, 156, (300, 300, 3), dtype=np.uint8))
    for turn, shift in ((1, 100 - 10j), (0.5 + 0.2j, 60), (3, -400 - 750j)):
        pixels = np.asarray(cut(photo, turn, shift), float)
        assert pixels.min() > 50  # nothing is black
    pixels = np.asarray(cut(photo, 1, 100), float)
    inside, near, far = pixels[:, 101:], pixels[:, 98:100], pixels[:, :60]
    assert np.array_equal(inside, np.asarray(photo, float)[:218, 1:78])
    assert abs(near[:, ::-1] - pixels[:, 100:102]).mean() < 3
    assert far.std() < inside.std() / 3


@pytest.fixture(scope="session")
def photos(faces, tmp_path_factory):
    """A folder of photos of every kind that there is."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "2019").mkdir()
    both = put(put(plain(), faces[0], 1.2, 20 + 80j), faces[1], 1.1 * np.exp(-0.2j), 330 + 150j)
    both.save(folder / "both.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    upright = put(plain(), faces[2], 1.5, 150 + 60j)
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "2019/turned.jpg", exif=exif)
    shutil.copy(folder / "both.png", folder / "copy of both.png")
    put(plain(), faces[3], 0.3, 100 + 100j).save(folder / "far.png")
    near = put(plain(), faces[3], 2, 100 + 20j)
    near.filter(ImageFilter.GaussianBlur(14)).save(folder / "shaken.png")
    plain().save(folder / "wall.png")
    (folder / "cut.png").write_bytes((folder / "both.png").read_bytes()[:2000])
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_every_photo_has_its_rows(photos, tmp_path, capsys, packed):
    source = photos
    if packed:
        source = tmp_path / "photos.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(photos.rglob("*.*g")):
                archive.write(path, path.relative_to(photos))
    folder = align(Config(str(source), str(tmp_path / "faces")))
    rows = table(folder)
    assert list(rows[0]) == COLUMNS
    assert sorted((row["photo"], row["left_out"]) for row in rows) == [
        ("2019/turned.jpg", ""),
        ("both.png", ""),
        ("both.png", ""),
        ("copy of both.png", "same photo: both.png"),
        ("cut.png", "not readable: cut short"),
        ("far.png", "too small"),
        ("shaken.png", "too blurred"),
        ("wall.png", "no face in the photo"),
    ]
    kept = {row["file"]: row for row in rows if not row["left_out"]}
    assert {path.name for path in folder.iterdir()} == {*kept, "faces.csv", "overview.png"}
    assert {"both.png-1.png", "both.png-2.png"} < set(kept)
    assert all(Image.open(folder / name).size == FRAME for name in kept)
    (turned,) = (row for row in kept.values() if row["photo"] == "2019/turned.jpg")
    assert off(points_in(turned), 1.5, 150 + 60j) < 3  # in the photo as it is seen
    said = capsys.readouterr().out
    assert f"3 faces of 7 photos are in {folder}; left out: 1 " in said
    assert "1 cut short (cut.png)" in said

    # Training takes the faces alone, from the folder and from a zip of it
    assert CelebADataset(folder, None).names == sorted(kept)
    shutil.make_archive(tmp_path / "packed", "zip", tmp_path, "faces")
    packed_names = CelebADataset(tmp_path / "packed.zip", None).names
    assert packed_names == [f"faces/{name}" for name in sorted(kept)]
    assert len(load_faces(folder, tmp_path / "cache")[0]) == 3


def test_an_overview_elsewhere_is_an_image_like_any_other(tmp_path):
    plain().save(tmp_path / "overview.png")
    assert CelebADataset(tmp_path, None).names == ["overview.png"]


def test_the_overview_shows_kept_and_left_out_faces(photos, tmp_path):
    folder = align(Config(str(photos), str(tmp_path / "faces")))
    sheet = np.asarray(Image.open(folder / "overview.png"), float)
    middle = sheet.shape[1] // 2
    first = next(row["file"] for row in table(folder) if row["file"])
    small = Image.open(folder / first).resize((89, 109), Image.Resampling.BOX)
    assert np.array_equal(sheet[14:123, :89], np.asarray(small))
    left_out = sheet[14:123, middle + 7 : middle + 7 + 2 * 89]
    assert left_out.std() > 10  # the two of them
    reasons = sheet[124:136, middle + 7 : middle + 7 + 2 * 89]
    assert reasons.min() < 128  # black on white


def test_faces_turned_away_or_found_twice_are_left_out(faces, monkeypatch, tmp_path):
    looking, away = TEMPLATE.copy(), TEMPLATE.copy()
    away[2] += 25
    assert turn_of(looking) < 0.02 and turn_of(away) > Config.max_turn
    assert turn_of(away) == pytest.approx(turn_of(away * 2j + 7))

    put(plain(), faces[0], 1, 100 + 100j).save(tmp_path / "photo.png")
    found = [looking + 100 + 100j, looking + 103 + 100j, away + 300 + 100j]
    monkeypatch.setattr(align_faces, "find_faces", lambda *_: [(each, 1) for each in found])
    monkeypatch.setattr(align_faces, "sharpness", lambda _: 1)
    folder = align(Config(str(tmp_path), str(tmp_path.with_name("faces"))))
    assert [row["left_out"] for row in table(folder)] == ["", "found twice", "turned away"]


@pytest.fixture
def quick(faces, monkeypatch, tmp_path):
    """A Config of twelve photos in which faces are found at once, and the names searched so far."""
    for number in range(12):
        put(plain((300, 300)), faces[number % 4], 1, number).save(tmp_path / f"{number:02d}.png")
    searched = []

    def find(photo, _):
        searched.append(photo.getpixel((0, 0)))
        return [(TEMPLATE + 1, 1), (TEMPLATE + 90 + 60j, 1)]

    monkeypatch.setattr(align_faces, "find_faces", find)
    monkeypatch.setattr(align_faces, "sharpness", lambda _: 1)
    return Config(str(tmp_path), str(tmp_path.with_name(f"{tmp_path.name} faces"))), searched


class Killed(BaseException):
    pass


def test_a_run_killed_at_any_write_goes_on_to_the_same_end(quick, monkeypatch):
    config, searched = quick
    whole = contents(align(config))
    assert len(whole) == 24 + 2 and len(searched) == 12
    write = align_faces.atomic_write
    monkeypatch.setattr(align_faces, "SAVE_EVERY", 0)
    for last in range(1, 29, 3):  # 24 faces, and faces.csv before, between and after them
        shutil.rmtree(config.out_dir)
        searched.clear()
        writes = count()

        def killed(path, sync=True, writes=writes, last=last):
            if next(writes) == last:
                raise Killed
            return write(path, sync)

        def cut_short(path, data, writes=writes, last=last):
            with open(path, "wb") as file:
                file.write(data[:100] if (number := next(writes)) == last else data)
            if number == last:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(align_faces, "atomic_write", killed)
            patch.setattr(Path, "write_bytes", cut_short)
            align(config)
        assert contents(align(config)) == whole
        assert len(searched) <= 12 + 4  # those of one block once more


def test_a_second_run_does_only_what_is_new(quick, faces, capsys):
    config, searched = quick
    before = contents(align(config))
    searched.clear()
    assert contents(align(config)) == before and not searched
    put(plain((300, 300)), faces[0], 1, 50).save(Path(config.photos, "new.png"))
    rows = table(align(config))
    assert len(searched) == 1 and len(rows) == 26
    assert "26 faces of 13 photos" in capsys.readouterr().out


def test_photos_of_the_same_names_as_those_that_are_done_are_not_taken_for_these(quick, faces):
    """As those of another camera, or of another year."""
    config, _ = quick
    before = contents(align(config))
    for number in range(7):
        assert contents(align(config)) == before  # one that was edited is no other one
        name = f"{number:02d}.png"
        put(plain((320, 300)), faces[0], 1, 50).save(Path(config.photos, name))
    with pytest.raises(RunError, match=r"faces.csv is of other photos .* names, as 00.png; name a"):
        align(config)
    assert contents(Path(config.out_dir)) == before
    older = Path(config.out_dir, "faces.csv")  # which did not know how large they are
    lines = older.read_text().splitlines()
    older.write_text("".join(f"{line.rpartition(',')[0]}\n" for line in lines))
    assert len(table(align(config))) == 24


def test_a_new_copy_of_a_photo_that_is_done_is_left_out(quick):
    config, _ = quick
    align(config)
    shutil.copy(Path(config.photos, "03.png"), Path(config.photos, "00 copy.png"))
    new = table(align(config))[24:]
    assert [(row["photo"], row["left_out"]) for row in new] == [
        ("00 copy.png", "same photo: 03.png")
    ]


def test_ctrl_c_saves_what_is_done_and_the_same_command_goes_on(quick, monkeypatch, capsys):
    config, searched = quick
    find = align_faces.find_faces

    def interrupted(*arguments):
        if len(searched) == 5:
            signal.raise_signal(signal.SIGINT)
        return find(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(align_faces, "find_faces", interrupted)
        with pytest.raises(Stopped) as ended:
            align(config)
    assert ended.value.code == 130
    assert f"saved in {config.out_dir}. The same command goes on." in capsys.readouterr().out
    assert len({row["photo"] for row in table(Path(config.out_dir))}) == 8  # two blocks of four
    align(config)
    assert len(searched) == 12


def test_the_benchmark_knows_where_each_face_was(faces, tmp_path):
    (tmp_path / "aligned").mkdir()
    for number, face in enumerate(faces):
        aligned = face.resize(FRAME, box=(0, 0, 178, 178))
        aligned.paste(face, (0, 20))
        aligned.save(tmp_path / f"aligned/{number}.png")
    flags = ["--data-dir", "aligned", "--photos", 4, "--side", 700]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = run_script("benchmarks/align_faces.py", *flags, cwd=tmp_path, env=one_thread)
    assert ended.returncode == 0, ended.stderr
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("| all |"))
    found, middle, most, psnr = (float(cell) for cell in line.split("|")[2:-1])
    assert found == 100 and middle <= most < 4 and psnr > 20
    assert "photos/s" in ended.stdout and "Memory of the largest process: " in ended.stdout


@pytest.mark.parametrize(
    "name",
    [".hidden.png", "caf\udce9 1.png", "./a.png", f"{'long ' * 9}.{'x' * 45}.png", "a/.b.png"],
)
def test_no_face_is_hidden_from_training(name):
    assert not align_faces.label(name).startswith(".") and "/" not in align_faces.label(name)


def test_photos_are_tried_again_and_deleted_faces_not_counted(quick, capsys):
    config, searched = quick
    whole = Path(config.photos, "00.png").read_bytes()
    Path(config.photos, "00.png").write_bytes(whole[:99])
    folder = align(config)
    assert len(searched) == 11 and "22 faces of 12 photos" in capsys.readouterr().out
    Path(config.photos, "00.png").write_bytes(whole)
    (folder / "05.png-1.png").unlink()
    align(config)
    assert len(searched) == 12 and "23 faces of 12 photos" in capsys.readouterr().out
    assert "Not readable" not in capsys.readouterr().out
