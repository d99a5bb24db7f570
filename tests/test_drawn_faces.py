import zipfile

import numpy as np
from PIL import Image

from drawings.faces import draw_face, draw_faces
from my_dataset import CelebADataset, face_transform


def test_a_face_is_a_function_of_its_seed():
    np.random.seed(0)
    first = np.asarray(draw_face(7))
    np.random.seed(1)
    assert first.shape == (218, 178, 3)
    assert np.array_equal(first, np.asarray(draw_face(7)))


def test_faces_differ_and_lie_where_celebas_do():
    faces = np.stack([np.asarray(draw_face(seed), float) for seed in range(1, 41)])
    assert (faces.std(axis=0) > 10).mean() > 0.9  # hardly a pixel is alike in all
    gray = faces.mean(axis=(0, 3))
    eyes, cheeks = gray[106:116, [69, 108]].mean(), gray[130:138, [62, 115]].mean()
    assert eyes < cheeks - 10  # the mean face is darker at CelebA's eye points


def test_the_zip_holds_them_in_order_for_the_dataset(tmp_path):
    path = tmp_path / "data/faces.zip"
    draw_faces(path, count=5)
    dataset = CelebADataset(path, face_transform())
    assert dataset.names == [f"{seed:06d}.jpg" for seed in range(1, 6)]
    with zipfile.ZipFile(path) as archive, archive.open("000004.jpg") as file:
        difference = np.asarray(Image.open(file), float) - np.asarray(draw_face(4), float)
    assert np.abs(difference).mean() < 4  # JPEG's loss
    first = path.read_bytes()
    draw_faces(path, count=5)
    assert path.read_bytes() == first
