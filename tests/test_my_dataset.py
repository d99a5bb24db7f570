import errno
import json
import os
import shutil
import zipfile
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_images
from PIL import Image
from torch.utils.data import DataLoader

import my_dataset
from common_tools import RunError
from machinery import packing, processes
from machinery.batches import FaceBatches, to_images
from machinery.console import sentence_of
from my_dataset import (
    DRAWN,
    DRAWN_FACES,
    CelebADataset,
    face_transform,
    find_images,
    load_faces,
    resize_and_crop,
    resize_pair,
)


def zip_folder(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    return path


def test_an_image_is_the_chapters_view_of_it(tmp_path):
    save_images(tmp_path, 1, size=(178, 218), suffix=".jpg")
    with Image.open(tmp_path / "000.jpg") as image:
        resized = image.resize((64, 78), Image.Resampling.BILINEAR).crop((0, 7, 64, 71))
    expected = (np.asarray(resized, np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5
    item = CelebADataset(tmp_path, face_transform(64))[0]
    assert item.dtype == torch.float32
    np.testing.assert_allclose(item.numpy(), expected, atol=1e-6)


def test_a_zip_reads_as_its_folder_does_and_in_sorted_order(tmp_path):
    folder = save_images(tmp_path / "faces", 3)
    save_images(folder / "more", 2, suffix=".JPEG")
    save_images(folder / "__MACOSX", 1)
    save_images(folder / ".hidden", 1)
    shutil.copy(folder / "000.png", folder / "._000.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "not_a_file.jpg").mkdir()
    from_folder = CelebADataset(folder, face_transform(32))
    from_zip = CelebADataset(zip_folder(folder, tmp_path / "faces.zip"), face_transform(32))
    names = ["000.png", "001.png", "002.png", "more/000.JPEG", "more/001.JPEG"]
    assert from_folder.names == from_zip.names == names
    for index in range(len(names)):
        assert torch.equal(from_folder[index], from_zip[index])


def test_a_zip_of_a_windows_tool_has_backslashes_in_its_paths(tmp_path):
    folder = save_images(tmp_path / "faces", 2)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for name in (r"__MACOSX\_a.jpg", r"pics\.hidden.jpg", r"pics\.git\a.jpg", "pics\\"):
            archive.writestr(name, b"not for us")
        archive.writestr(r"pics\a.png", (folder / "000.png").read_bytes())
        archive.writestr(r"pics\of May\b.png", (folder / "001.png").read_bytes())
    images, expected = (
        CelebADataset(tmp_path / "faces.zip", np.asarray),
        CelebADataset(folder, np.asarray),
    )
    assert len(images) == 2
    assert all((images[index] == expected[index]).all() for index in range(2))


def test_a_zip_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "faces.zip"
    path.touch()
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    monkeypatch.setattr(my_dataset, "ZipFile", lambda _: (_ for _ in ()).throw(denied))
    with pytest.raises(PermissionError) as error:
        CelebADataset(path, None)
    assert str(sentence_of(error.value)).startswith(f"{path} cannot be used (Permission denied);")


def test_a_zip_may_lead_to_its_images_by_dots(tmp_path):
    """`zip faces.zip ../faces/*.png` writes the paths as they were given."""
    picture = (save_images(tmp_path / "faces", 1) / "000.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for name in ("../faces/a.png", "./b.png", "../.hidden/c.png"):
            archive.writestr(name, picture)
    images = CelebADataset(tmp_path / "faces.zip", np.asarray)
    assert images.names == ["../faces/a.png", "./b.png"]
    assert images[0].shape == images[1].shape


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    folder = save_images(tmp_path / "faces", 1)
    os.mkfifo(folder / "pipe.jpg")
    assert CelebADataset(folder, np.asarray).names == ["000.png"]


def test_a_fingerprint_stays_what_it_was(tmp_path):
    """Runs that go on compare it: it is of the names and sizes, in a folder and in a zip."""
    (tmp_path / "faces/more").mkdir(parents=True)
    for name, size in {"b.jpg": 3, "a.PNG": 5, "more/a.webp": 7, "more/notes.txt": 9}.items():
        (tmp_path / "faces" / name).write_bytes(bytes(size))
    for source in (tmp_path / "faces", zip_folder(tmp_path / "faces", tmp_path / "faces.zip")):
        assert CelebADataset(source, None).fingerprint() == 499961224


def test_images_of_formats_that_are_not_read_are_counted_each_time(tmp_path, capsys):
    folder = save_images(tmp_path / "faces", 2)
    for name in ("a.heic", "b.HEIC", "c.psd", ".hidden.heic", "notes.txt", "film.mp4"):
        (folder / name).write_bytes(b"not for us")
    for source in (folder, zip_folder(folder, tmp_path / "faces.zip")):
        for _ in range(2):
            assert len(load_faces(source, tmp_path / "cache", 32)[0]) == 2
            printed = capsys.readouterr().out
            assert printed.count(f"Passed over in {source}: 2 .heic, 1 .psd; convert") == 1
    (folder / "d.heic").touch()  # nothing is packed again for it
    load_faces(folder, tmp_path / "cache", 32)
    assert "3 .heic" in capsys.readouterr().out
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(RunError, match=r"no images in it .*; passed over: 3 \.heic, 1 \.psd"):
        CelebADataset(folder, None)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_several_worker_processes_read_one_zip(tmp_path, start_method):
    if start_method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {start_method}")
    with zipfile.ZipFile(tmp_path / "noise.zip", "w") as archive:  # big: many reads for each file
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (200, 200, 3), dtype=np.uint8)
            with archive.open(f"{number:03d}.bmp", "w") as file:
                Image.fromarray(pixels).save(file, "BMP")
    dataset = CelebADataset(tmp_path / "noise.zip", face_transform(32))
    expected = torch.stack([dataset[index] for index in range(len(dataset))])
    loader = DataLoader(dataset, 4, num_workers=2, multiprocessing_context=start_method)
    assert torch.equal(torch.cat(list(loader)), expected)


def test_gray_and_transparent_images_become_what_nc_asks_for(tmp_path):
    Image.new("L", (40, 40), 100).save(tmp_path / "gray.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "see_through.png")
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "red.bmp")
    gray, red, see_through = CelebADataset(tmp_path, np.asarray)
    assert (gray == 100).all() and gray.shape == (40, 40, 3)
    assert (red == [255, 0, 0]).all()
    assert (see_through == 255).all()  # white, not the colour under the transparency
    assert CelebADataset(tmp_path, face_transform(32, nc=1), nc=1)[1].shape == (1, 32, 32)


def refuse(*_):
    raise AssertionError("nothing was to be decoded")


@pytest.mark.parametrize(("image_size", "nc"), [(64, 3), (32, 1)])
def test_packed_pixels_are_those_of_the_data_set(tmp_path, image_size, nc):
    folder = tmp_path / "faces"
    for number, size in enumerate([(178, 218), (101, 64), (40, 40), (7, 90), (64, 64), (31, 333)]):
        save_images(folder / str(number), 2, size=size, suffix=".jpg")
    dataset = CelebADataset(folder, face_transform(image_size, nc), nc)
    expected = torch.stack([dataset[index] for index in range(len(dataset))])
    for source in (folder, zip_folder(folder, tmp_path / "faces.zip")):
        images, fingerprint = load_faces(source, tmp_path / "cache", image_size, nc)
        assert images.shape == (12, image_size, image_size, nc) and images.dtype == np.uint8
        packed = to_images(torch.tensor(images))
        assert torch.equal(packed, expected)
        assert packed.is_contiguous(memory_format=torch.channels_last)
        assert fingerprint == dataset.fingerprint()


def test_several_processes_pack_as_one_does(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "faces", 100)
    (folder / "050.png").write_bytes(b"")
    packed = []
    for cores in (1, 3):  # at 256 pixels a second process is worth it from 80 images on
        monkeypatch.setattr(processes, "cores", lambda cores=cores: cores)
        cache = tmp_path / str(cores)
        packed.append(load_faces(folder, cache, 256, skip_bad_images=True)[0])
    assert packed[0].shape == (99, 256, 256, 3)
    assert (packed[0] == packed[1]).all()


def test_packed_images_are_opened_at_once_until_something_changes(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "faces", 3)
    archive = zip_folder(folder, tmp_path / "faces.zip")
    with pytest.MonkeyPatch.context() as no_decoding:
        for source in (folder, archive):
            first, fingerprint = load_faces(source, tmp_path / "cache", 32)
            no_decoding.setattr(packing, "decode", refuse)
            again, same = load_faces(source, tmp_path / "cache", 32)
            assert isinstance(again, np.memmap)
            assert (again == first).all() and same == fingerprint
            for options in [{"nc": 1}, {"image_size": 64}, {"max_images": 2}]:
                with pytest.raises(AssertionError, match="nothing was to be decoded"):
                    load_faces(source, tmp_path / "cache", **{"image_size": 32} | options)
            no_decoding.undo()
    assert load_faces(folder, tmp_path / "cache", 32, max_images=2)[0].shape[0] == 2

    os.utime(folder / "001.png", ns=(0, 0))  # another time: perhaps another image
    os.utime(archive, ns=(0, 0))
    for source in (folder, archive):
        monkeypatch.setattr(packing, "decode", refuse)
        with pytest.raises(AssertionError, match="nothing was to be decoded"):
            load_faces(source, tmp_path / "cache", 32)
        monkeypatch.undo()
    save_images(folder, 4)
    assert len(load_faces(folder, tmp_path / "cache", 32)[0]) == 4


def test_a_packed_file_that_is_cut_short_is_packed_again(tmp_path, capsys):
    folder = save_images(tmp_path / "faces", 3)
    expected = np.array(load_faces(folder, tmp_path / "cache", 32)[0])
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    for length in [0, 5, 100, 128, 5000, 128 + expected.nbytes, len(whole) - 1]:
        path.write_bytes(whole[:length])
        capsys.readouterr()
        assert (load_faces(folder, tmp_path / "cache", 32)[0] == expected).all()
        assert f"{path} is damaged or of other images" in capsys.readouterr().out
        assert path.read_bytes() == whole


def test_a_packed_file_that_tells_something_else_of_its_images_is_packed_again(tmp_path, capsys):
    folder = save_images(tmp_path / "faces", 3)
    images, _ = load_faces(folder, tmp_path / "cache", 32)
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    array = whole[: images.offset + images.nbytes]
    about = json.loads(whole[len(array) :])
    without = [{key: about[key] for key in about if key != left_out} for left_out in about]
    others = [{"name": "other.npy"}, {"name": None}, {"unreadable": []}, {"fingerprint": "1"}]
    changed = [about | other for other in others]
    for wrong in [*without, *changed, {}, [], [about], "name", 7, None]:
        path.write_bytes(array + json.dumps(wrong).encode())
        capsys.readouterr()
        assert len(load_faces(folder, tmp_path / "cache", 32)[0]) == 3
        assert f"{path} is damaged or of other images" in capsys.readouterr().out
        assert path.read_bytes() == whole
    path.write_bytes(b"PK\x03\x04" + whole)  # looks like a .npz
    assert len(load_faces(folder, tmp_path / "cache", 32)[0]) == 3


def test_a_packed_file_with_a_wrong_bit_in_its_head_is_damaged_or_opened(tmp_path):
    load_faces(save_images(tmp_path / "faces", 1), tmp_path / "cache", 32)
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    for bit in range(128 * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with suppress(OSError, ValueError):
            packing.open_packed(path)


def test_of_one_source_the_packed_files_used_last_are_kept(tmp_path, capsys):
    folder, cache = save_images(tmp_path / "faces", 9), tmp_path / "cache"
    for number in range(4):  # of another source with the same name
        load_faces(save_images(tmp_path / "other/faces", 9), cache, 32, max_images=number)
    capsys.readouterr()
    np.save(cache / "faces-32x3-0123456789abcdef.npy", NUMBERED)
    (cache / "notes.npy").write_text("not ours")
    os.symlink("nowhere.npy", cache / "gone.npy")  # as if another process had just removed it
    others, kept = set(cache.iterdir()), []
    for number, options in enumerate([{}, {"nc": 1}, *({"max_images": n} for n in (8, 7, 6))]):
        if number == 3:
            load_faces(folder, cache, 32)
            kept.append(kept.pop(0))  # the first one, used again
        before = set(cache.iterdir())
        load_faces(folder, cache, 32, **options)
        (new,) = set(cache.iterdir()) - before
        os.utime(new, ns=(number, number))
        kept.append(new)
        printed = capsys.readouterr().out
        assert printed == "" if number < 3 else f"Removed {kept.pop(0).name} from" in printed
        assert set(cache.iterdir()) == others | set(kept)


@pytest.mark.parametrize("error", [PermissionError(13, "in use"), FileNotFoundError(2, "gone")])
def test_a_packed_file_that_cannot_be_removed_stays_without_a_word(
    tmp_path, capsys, monkeypatch, error
):
    folder, unlink = save_images(tmp_path / "faces", 9), Path.unlink

    def refuse_to_unlink(path, *arguments, **options):
        if path.suffix == ".npy":
            raise error
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", refuse_to_unlink)
    for number in range(1, 5):
        assert len(load_faces(folder, tmp_path / "cache", 32, max_images=number)[0]) == number
    assert len(list((tmp_path / "cache").iterdir())) == 4
    assert not capsys.readouterr().out


def test_where_a_file_has_the_place_of_the_cache_nothing_is_called_damaged(tmp_path, capsys):
    images = save_images(tmp_path / "images", 3)
    with pytest.raises(RunError, match=r"000.png is a file; name a new folder"):
        load_faces(images, images / "000.png", 32)
    assert capsys.readouterr().out == ""


def test_packed_images_that_may_not_be_read_are_not_called_damaged(tmp_path, capsys, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(my_dataset, "open_packed", denied)
    with pytest.raises(PermissionError):
        load_faces(save_images(tmp_path / "images", 3), tmp_path / "cache", 32)
    assert capsys.readouterr().out == "" and not (tmp_path / "cache").exists()


def test_packing_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    folder = save_images(tmp_path / "faces", 3)
    monkeypatch.setattr(packing, "decode", refuse)
    with pytest.raises(AssertionError):
        load_faces(folder, tmp_path / "cache", 32)
    assert not list((tmp_path / "cache").iterdir())


def test_corrupt_images_are_named_or_left_out(tmp_path, capsys, monkeypatch):
    folder = save_images(tmp_path / "faces", 4, suffix=".jpg")
    expected = np.array(load_faces(folder, tmp_path / "cache", 32)[0])
    whole = (folder / "001.jpg").read_bytes()
    (folder / "001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "003.jpg").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(RunError, match=r"2 of 4 images .*001\.jpg.*003\.jpg.*--skip-bad-im"):
            load_faces(folder, tmp_path / "cache", 32)
        images, fingerprint = load_faces(folder, tmp_path / "cache", 32, skip_bad_images=True)
        assert (images == expected[[0, 2]]).all()
        assert "2 of 4 images" in capsys.readouterr().out
        monkeypatch.setattr(packing, "decode", refuse)  # the second time it is known
    dataset = CelebADataset(folder, face_transform())
    with pytest.raises(RunError, match=r"001\.jpg is not a readable image"):
        dataset[1]
    dataset.names = ["000.jpg", "002.jpg"]
    assert fingerprint == dataset.fingerprint()
    monkeypatch.undo()
    with pytest.raises(RunError, match="none of the images in .* can be read"):
        for name in ("000.jpg", "002.jpg"):
            (folder / name).write_bytes(b"")
        load_faces(folder, tmp_path / "cache", 32, skip_bad_images=True)


@pytest.mark.parametrize("size", [(3201, 1), (1, 9000), (40_000, 7), (6423, 64)])
def test_a_line_is_cropped_to_the_same_pixels(size):
    image = noise(size)
    whole = face_transform(64)(image)
    cropped = face_transform(64).transforms[2:]
    found = cropped[1](cropped[0](resize_and_crop(image, 64)))
    assert (whole - found).abs().max() < 1.5 * 2 / 255  # rounded in other places


def test_a_line_takes_little_memory(monkeypatch):
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *a, **k: sizes.append(size) or resize(self, size, *a, **k),
    )
    assert resize_and_crop(Image.new("RGB", (1, 10_000_000)), 64).size == (64, 64)
    assert sizes == [(64, 64)]


def test_a_pair_is_its_halves():
    pair = noise((100, 60))
    halves = pair.crop((0, 0, 50, 60)), pair.crop((50, 0, 100, 60))
    found = resize_pair(pair, 32)
    for half, pixels in zip(halves, (found[..., :3], found[..., 3:])):
        expected = np.asarray(half.resize((32, 32), Image.Resampling.BILINEAR), int)
        assert abs(expected - pixels)[:, 2:-2].max() <= 1  # at the seam it sees the other one


def noise(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# Each image of these is of one value: its own number.
NUMBERED = np.arange(26, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
CPU = torch.device("cpu")


def numbers(batches):
    """Which images these batches hold."""
    return [round((value + 1) * 127.5) for batch in batches for value in batch[:, 0, 0, 0].tolist()]


def test_each_epoch_has_every_image_once_in_an_order_of_its_own():
    faces = FaceBatches(NUMBERED, 8, 1, CPU)
    epochs = [numbers(faces.epoch(epoch)) for epoch in range(4)]
    assert len(faces) == 3
    assert all(len(indices) == len(set(indices)) == 24 for indices in epochs)
    assert len(set(map(tuple, epochs))) == 4
    assert len({frozenset(range(26)) - set(indices) for indices in epochs}) > 1  # left out
    assert numbers(FaceBatches(NUMBERED, 8, 2, CPU).epoch(0)) != epochs[0]
    assert numbers(faces.epoch(0)) == epochs[0]


def test_an_epoch_goes_on_where_it_was_left():
    faces = FaceBatches(NUMBERED, 8, 1, CPU)
    whole = numbers(faces.epoch(5))
    assert numbers(faces.epoch(5, images_seen=16)) == whole[16:]


def test_several_processes_share_an_epoch_also_when_their_number_changes():
    whole = numbers(FaceBatches(NUMBERED, 2, 1, CPU).epoch(3))
    ranks = [FaceBatches(NUMBERED, 2, 1, CPU, rank=rank, world_size=3) for rank in range(3)]
    assert [len(faces) for faces in ranks] == [4, 4, 4]
    seen = [numbers(faces.epoch(3)) for faces in ranks]
    assert sorted(chain(*seen)) == sorted(whole[:24])
    first_two_iterations = chain(*(images[:4] for images in seen))
    alone = numbers(FaceBatches(NUMBERED, 2, 1, CPU).epoch(3, images_seen=12))
    assert sorted([*first_two_iterations, *alone]) == list(range(26))


def test_labels_stay_with_their_images():
    labels = torch.stack([torch.arange(26), -torch.arange(26)], 1)
    for place in ({}, {"rank": 1, "world_size": 3}):
        faces = FaceBatches(NUMBERED, 4, 1, CPU, horizontal_flip=True, **place)
        faces.labels = labels
        plain = numbers(FaceBatches(NUMBERED, 4, 1, CPU, **place).epoch(3, 12))
        pairs = list(faces.epoch(3, 12))
        assert pairs and numbers(images for images, _ in pairs) == plain
        assert [row.tolist() for _, rows in pairs for row in rows] == [[n, -n] for n in plain]


def test_half_of_the_images_are_mirrored_if_asked_for():
    pixels = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), dtype=np.uint8)
    (plain,) = FaceBatches(pixels, 400, 1, CPU).epoch(0)
    (mixed,) = FaceBatches(pixels, 400, 1, CPU, horizontal_flip=True).epoch(0)
    (again,) = FaceBatches(pixels, 400, 1, CPU, horizontal_flip=True).epoch(0)
    mirrored = (mixed == plain.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(torch.where(mirrored[:, None, None, None], plain.flip(3), plain), mixed)
    assert 150 < mirrored.sum() < 250
    assert torch.equal(mixed, again)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_damaged_drawings_are_to_be_deleted_also_by_their_whole_path(tmp_path, monkeypatch):
    """As the config.json of a run has it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / DRAWN_FACES).write_bytes(b"PK cut short")
    with pytest.raises(RunError, match="delete it, and it is drawn again"):
        CelebADataset(tmp_path / DRAWN_FACES, None)


def test_celeba_is_looked_for_as_folder_zip_then_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DRAWN, DRAWN_FACES, lambda path: print(f"drawn to {path}"))
    assert find_images("data/img_align_celeba") == "data/drawn_faces.zip"
    printed = capsys.readouterr().out
    assert "mmlab.ie.cuhk.edu.hk" in printed and "drawn to data/drawn_faces.zip" in printed
    assert find_images("my/photos") == "my/photos"  # its absence is for the data set to report
    (tmp_path / "data").mkdir()
    (tmp_path / "data/img_align_celeba.zip").touch()
    assert find_images("data/img_align_celeba") == "data/img_align_celeba.zip"
    (tmp_path / "data/img_align_celeba").mkdir()
    assert find_images("data/img_align_celeba") == "data/img_align_celeba"


def test_a_zip_of_paths_that_begin_at_its_own_folder_is_read_whole(tmp_path):
    folder = save_images(tmp_path / "faces", 4)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:  # as "tar -a -cf x.zip ." does it
        for path in folder.iterdir():
            archive.writestr(zipfile.ZipInfo(f"./{path.name}"), path.read_bytes())
    expected, images = (
        load_faces(source, tmp_path / "cache", 32)[0] for source in (folder, tmp_path / "faces.zip")
    )
    assert (images == expected).all() and len(images) == 4


def test_images_that_can_be_read_again_are_used_again(tmp_path, monkeypatch, capsys):
    images, read = save_images(tmp_path / "images", 12), CelebADataset.read

    def refusing(self, name):
        if name == "003.png":
            raise PermissionError(13, "Permission denied", name)
        return read(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CelebADataset, "read", refusing)
        for _ in range(2):  # the second time from the packed file
            assert len(load_faces(images, tmp_path / "cache", 32, skip_bad_images=True)[0]) == 11
        assert "lacks" not in capsys.readouterr().out
    assert len(load_faces(images, tmp_path / "cache", 32)[0]) == 12
    assert "lacks 1 that can be read by now, as 003.png); packing again" in capsys.readouterr().out


def test_the_name_of_a_folder_may_be_as_long_as_any(tmp_path):
    images = save_images(tmp_path / ("脸" * 80), 9)  # 240 bytes of the 255 that there may be
    assert len(load_faces(images, tmp_path / "cache", 32)[0]) == 9
