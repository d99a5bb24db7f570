import shutil
import signal
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from conftest import save_images
from PIL import Image
from torch.utils.data import DataLoader

from common_tools import RunError, leave_signals_to_parent
from my_dataset import CelebADataset, EpochOrder, face_transform, find_images, load_faces


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


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="only Linux tells who sent it")
def test_a_worker_outlives_signals_but_not_its_parents_terminate(images, start_method):
    dataset = CelebADataset(images, face_transform(32))
    options = {"num_workers": 1, "worker_init_fn": leave_signals_to_parent}
    options |= {"multiprocessing_context": start_method, "persistent_workers": True}
    batches = iter(DataLoader(dataset, 2, **options))
    first = next(batches)
    (worker,) = torch.multiprocessing.active_children()
    survives = [signal.SIGINT, signal.SIGTERM] if start_method == "fork" else [signal.SIGINT]
    for number in survives:
        subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)  # not from the parent
    assert len(first) + sum(map(len, batches)) == len(dataset)
    worker.terminate()  # what multiprocessing does as the parent ends
    worker.join(timeout=10)
    assert worker.exitcode in (0, -signal.SIGTERM)


def test_gray_and_transparent_images_become_what_nc_asks_for(tmp_path):
    Image.new("L", (40, 40), 100).save(tmp_path / "gray.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "see_through.png")
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "red.bmp")
    gray, red, see_through = CelebADataset(tmp_path, np.asarray)
    assert (gray == 100).all() and gray.shape == (40, 40, 3)
    assert (red == [255, 0, 0]).all()
    assert (see_through == 255).all()  # white, not the colour under the transparency
    assert CelebADataset(tmp_path, face_transform(32, nc=1), nc=1)[1].shape == (1, 32, 32)


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    image = Image.new("RGB", (60, 40))
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert CelebADataset(tmp_path, np.asarray)[0].shape == (60, 40, 3)


def test_a_bad_data_dir_gets_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    save_images(tmp_path / "texts", 1, suffix=".gif")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 cut short")
    zip_folder(tmp_path / "texts", tmp_path / "no_images.zip")
    sentences = {
        "missing": "does not exist",
        "empty": "has no images",
        "texts": "has no images",
        "no_images.zip": "has no images",
        "broken.zip": "cannot be opened as a zip",
    }
    for name, sentence in sentences.items():
        with pytest.raises(RunError, match=sentence) as error:
            CelebADataset(tmp_path / name, face_transform())
        assert name in str(error.value) and "\n" not in str(error.value)


def test_corrupt_images_are_named_or_left_out(tmp_path, capsys):
    save_images(tmp_path, 4, suffix=".jpg")
    whole = (tmp_path / "001.jpg").read_bytes()
    (tmp_path / "001.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "003.jpg").write_bytes(b"")
    with pytest.raises(RunError, match=r"2 of 4 images .*001\.jpg, 003\.jpg.*--skip-bad-images"):
        load_faces(tmp_path, 32, nc=3)
    dataset = load_faces(tmp_path, 32, nc=3, skip_bad_images=True)
    assert dataset.names == ["000.jpg", "002.jpg"]
    assert "2 of 4 images" in capsys.readouterr().out
    with pytest.raises(RunError, match=r"001\.jpg is not a readable image"):
        CelebADataset(tmp_path, face_transform())[1]


def test_an_image_that_vanishes_gets_one_sentence_from_a_worker_too(tmp_path):
    dataset = load_faces(save_images(tmp_path, 2), 32, nc=3)
    (tmp_path / "001.png").unlink()
    with pytest.raises(RunError, match=r"001\.png is not a readable image .*No such file") as error:
        list(DataLoader(dataset, 2, num_workers=1))
    assert "\n" not in str(error.value)


def test_max_images_takes_the_first(images):
    assert load_faces(images, 32, nc=3, max_images=2).names == ["000.png", "001.png"]


def test_each_epoch_has_every_image_once_in_an_order_of_its_own():
    order = EpochOrder(num_images=26, batch_size=8, seed=1)
    epochs = []
    for epoch in range(4):
        order.start(epoch)
        epochs.append([index for batch in order for index in batch])
    assert len(order) == 3
    assert all(len(indices) == len(set(indices)) == 24 for indices in epochs)
    assert len(set(map(tuple, epochs))) == 4
    assert len({frozenset(range(26)) - set(indices) for indices in epochs}) > 1  # left out
    other_seed = EpochOrder(num_images=26, batch_size=8, seed=2)
    assert [index for batch in other_seed for index in batch] != epochs[0]


def test_an_epoch_goes_on_where_it_was_left():
    order = EpochOrder(num_images=26, batch_size=8, seed=1)
    order.start(epoch=5)
    whole = list(order)
    order.start(epoch=5, iteration=2)
    assert list(order) == whole[2:]


def test_celeba_is_looked_for_as_folder_zip_then_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("my_dataset.draw_faces", lambda path: print(f"drawn to {path}"))
    assert find_images("data/img_align_celeba") == "data/drawn_faces.zip"
    printed = capsys.readouterr().out
    assert "mmlab.ie.cuhk.edu.hk" in printed and "drawn to data/drawn_faces.zip" in printed
    assert find_images("my/photos") == "my/photos"  # its absence is for the data set to report
    (tmp_path / "data").mkdir()
    (tmp_path / "data/img_align_celeba.zip").touch()
    assert find_images("data/img_align_celeba") == "data/img_align_celeba.zip"
    (tmp_path / "data/img_align_celeba").mkdir()
    assert find_images("data/img_align_celeba") == "data/img_align_celeba"
