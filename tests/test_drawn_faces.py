import zipfile

import numpy as np
from PIL import Image

from drawings.faces import attributes, draw_face, draw_faces
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


def test_a_face_has_the_attributes_that_it_is_said_to_have():
    told = [attributes(seed) for seed in range(1, 81)]
    names = list(told[0])
    assert all(0 < sum(row[name] for row in told) < 80 for name in names)
    assert all(sum(row[name] for name in names if "Hair" in name) <= 1 for row in told)
    faces = np.stack([np.asarray(draw_face(seed), float) for seed in range(1, 81)])

    def mean(name, rows, columns, whether=True):
        chosen = [row[name] == whether for row in told]
        return faces[chosen, rows, columns].mean((0, 1, 2))

    hair = {name: mean(name, slice(42, 56), slice(75, 103)) for name in names if "Hair" in name}
    black, blond, brown, grey = (
        hair[f"{color}_Hair"] for color in ("Black", "Blond", "Brown", "Gray")
    )
    assert black.mean() < brown.mean() < min(blond.mean(), grey.mean())
    assert np.ptp(grey) < np.ptp(brown) and np.ptp(grey) < np.ptp(blond)
    bridge = slice(105, 111), slice(85, 92)
    assert mean("Eyeglasses", *bridge).mean() < mean("Eyeglasses", *bridge, False).mean() - 10
    forehead = slice(72, 85), slice(70, 108)
    assert mean("Bangs", *forehead).mean() < mean("Bangs", *forehead, False).mean() - 10


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
