import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import my_dataset
from drawings.people import (
    JOINTS,
    draw_clothes,
    draw_garment,
    draw_person,
    draw_poses,
    meet,
    stand,
    take_pose,
)
from my_dataset import CelebADataset, find_images

FRONT = stand(["out", "down", "stand", "stand"])[:, :2] * 0.0085 + [0.5, 0.25]  # as take_pose's
BEHIND = FRONT * [-1, 1] + [1, 0]  # left is right


def pixels(picture):
    return np.asarray(picture, float)


def around(picture, spot, reach=2):
    """The median color around a spot, x and y from 0 to 1."""
    x, y = (int(share * picture.width) for share in spot)
    square = pixels(picture)[y - reach : y + reach + 1, x - reach : x + reach + 1]
    return np.median(square.reshape(-1, 3), axis=0)


def test_a_person_a_garment_and_a_pose_are_functions_of_their_seeds():
    first = draw_person(7), draw_garment(7), take_pose(7)
    np.random.seed(1)
    for a, b in zip(first, (draw_person(7), draw_garment(7), take_pose(7))):
        assert np.array_equal(a, b)
    assert np.array_equal(draw_person(7), draw_person(7, take_pose(7)))
    assert not np.array_equal(draw_person(7), draw_person(8, take_pose(7)))
    assert draw_person(7).size == draw_garment(7).size == (128, 128)


def test_at_half_the_size_it_is_the_same_picture():
    for large, small in (
        (draw_person(3), draw_person(3, size=64)),
        (draw_garment(3), draw_garment(3, size=64)),
    ):
        assert small.size == (64, 64) and small.mode == "RGB"
        assert abs(pixels(large.reduce(2)) - pixels(small)).mean() < 4


def test_poses_are_of_one_skeleton_in_the_picture_and_some_from_behind():
    poses = np.stack([take_pose(seed) for seed in range(300)])
    assert poses.shape == (300, 14, 2) and 0 < poses.min() and poses.max() < 1
    at = {name: poses[:, k] for k, name in enumerate(JOINTS)}
    behind = at["left shoulder"][:, 0] < at["right shoulder"][:, 0]
    assert 0.1 < behind.mean() < 0.3
    assert (at["head top"][:, 1] < at["neck"][:, 1]).all()
    assert (at["neck"][:, 1] < at["left hip"][:, 1]).all()
    for side in ("left", "right"):
        shin = np.linalg.norm(at[f"{side} knee"] - at[f"{side} ankle"], axis=1)
        thigh = np.linalg.norm(at[f"{side} knee"] - at[f"{side} hip"], axis=1)
        assert max(shin.max(), thigh.max()) < 0.21 and np.median(shin) > 0.14
    front = np.stack([take_pose(seed, behind=False) for seed in range(300)])
    assert (
        front[:, JOINTS.index("left shoulder"), 0] > front[:, JOINTS.index("right shoulder"), 0]
    ).all()
    assert np.array_equal(front[~behind], poses[~behind])


@pytest.mark.parametrize("seed", range(1, 9))
def test_hands_are_where_the_joints_are(seed):
    skin = np.array(meet(seed).skin.color)
    lowered = stand(["down", "down", "stand", "stand"])[:, :2] * 0.0085 + [0.5, 0.25]
    wrist, elbow = (JOINTS.index(f"left {name}") for name in ("wrist", "elbow"))
    for pose in FRONT, lowered:
        hand = pose[wrist] + (pose[wrist] - pose[elbow]) * 0.15
        assert abs(around(draw_person(seed, pose), hand, 1) - skin).max() < 30
    hand = FRONT[wrist] + (FRONT[wrist] - FRONT[elbow]) * 0.15
    assert abs(around(draw_person(seed, lowered), hand, 1) - skin).max() > 5  # the wall


def test_who_is_seen_from_behind_shows_hair_instead_of_a_face():
    for seed in [
        seed for seed in range(1, 30) if not meet(seed).hat and meet(seed).style != "bald"
    ]:
        person = meet(seed)
        middle = FRONT[JOINTS.index("neck")] - [0, 11 * 0.0085]
        ahead = around(draw_person(seed, FRONT), middle)
        back = around(draw_person(seed, BEHIND), [1 - middle[0], middle[1]])
        assert abs(ahead - person.skin.color).max() < abs(back - person.skin.color).max()
        assert abs(back - person.hair).max() < 30


def test_what_is_on_the_front_is_seen_from_the_front_alone():
    seeds = [seed for seed in range(1, 120) if meet(seed).top.pattern == "print"]
    assert len(seeds) > 5
    chest = FRONT[JOINTS.index("neck")] + [0, 15 * 0.0085]
    for seed in seeds:
        top = meet(seed).top
        ahead, back = (pixels(draw_person(seed, pose)) for pose in (FRONT, BEHIND))
        x, y = (chest * 128).astype(int)
        spots = np.s_[y - 6 : y + 7, x - 5 : x + 6]
        assert ahead[spots].std((0, 1)).max() > back[spots].std((0, 1)).max()
        assert abs(np.median(back[spots], (0, 1)) - top.color).max() < 30


def test_a_garment_has_the_colors_that_its_wearer_wears():
    seeds = [seed for seed in range(1, 120) if meet(seed).top.pattern == ""]
    chest = (np.median(FRONT[[2, 3, 12]], 0) * [0, 1] + [0.53, 0.02]) - [0, 0.12]
    worn = np.array([around(draw_person(seed, FRONT), chest) for seed in seeds])
    alone = np.array([around(draw_garment(seed), (0.56, 0.45)) for seed in seeds])
    same = abs(worn - alone).max(1)
    others = abs(worn - np.roll(alone, 1, axis=0)).max(1)
    assert np.median(same) < 12 and (same < 30).mean() > 0.8 and np.median(others) > 50


def test_garments_can_be_told_apart_and_lie_on_white():
    garments = np.stack([pixels(draw_garment(seed, 64)) for seed in range(1, 101)])
    assert (garments[:, [0, 0, -1, -1], [0, -1, 0, -1]] > 245).all()
    flat = garments.reshape(100, -1)
    distances = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(2)) + 1000 * np.eye(100)
    assert (distances.min(1) > 8).mean() > 0.95


def test_the_zip_of_clothes_has_people_beside_their_garments(tmp_path):
    path = tmp_path / "data/clothes.zip"
    draw_clothes(path, count=3)
    dataset = CelebADataset(path, np.asarray)
    assert dataset.names == ["000001.png", "000002.png", "000003.png"] and not dataset.passed_over
    assert dataset[1].shape == (128, 256, 3)
    assert np.array_equal(dataset[1][:, :128], draw_person(2, take_pose(2, behind=False)))
    assert np.array_equal(dataset[1][:, 128:], draw_garment(2))
    first = path.read_bytes()
    draw_clothes(path, count=3)
    assert path.read_bytes() == first


def test_the_zip_of_poses_tells_them(tmp_path):
    path = tmp_path / "poses.zip"
    draw_poses(path, count=3)
    dataset = CelebADataset(path, np.asarray)
    assert len(dataset) == 3 and not dataset.passed_over
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("poses.json"))
        picture = np.asarray(Image.open(archive.open("000003.png")))
    assert [*told] == dataset.names and picture.shape == (128, 256, 3)
    for k, pose in enumerate(told["000003.png"]):
        assert np.shape(pose) == (14, 2) and np.array_equal(np.round(pose, 4), pose)
        assert np.array_equal(picture[:, 128 * k : 128 * k + 128], draw_person(3, pose))
    assert told["000003.png"][0] != told["000003.png"][1]
    first = path.read_bytes()
    draw_poses(path, count=3)
    assert path.read_bytes() == first


def test_drawings_are_made_where_they_are_named_and_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, draw in my_dataset.DRAWN.items():
        monkeypatch.setitem(my_dataset.DRAWN, path, lambda path, draw=draw: draw(path, count=1))
        assert find_images(path) == path and len(CelebADataset(path, None)) == 1
        stat = (tmp_path / path).stat()
        assert find_images(path) == path and (tmp_path / path).stat() == stat
    assert find_images("data/mine.zip") == "data/mine.zip" and len(
        [*tmp_path.glob("data/*")]
    ) == len(my_dataset.DRAWN)
