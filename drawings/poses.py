"""Skeletons of people, and the poses that people take.

Lengths are in parts of a person, who is 95 of them tall, down from the neck.
"""

import numpy as np

from drawings.faces import pick

# fmt: off
JOINTS = ("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
          "right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow",
          "left wrist", "neck", "head top")
SIDES = {"left": 1, "right": -1}
# Limbs: their joints, how far these are apart, and where the first is (to the left, down, forward).
ARM = ("shoulder", "elbow", "wrist"), (14.5, 13), (8.6, 4.5, -1.5)
LEG = ("hip", "knee", "ankle"), (21, 20), (4.6, 30, 0)
BONES = [("neck", "head top", 21)]
for names, lengths, _ in ARM, LEG:
    BONES += [(f"{side} {a}", f"{side} {b}", length)
              for side in SIDES for a, b, length in zip(names, names[1:], lengths)]
ARMS = {  # where the bones of a left arm point to
    "down": ((0.25, 1, 0), (0.08, 1, 0.15)), "hip": ((0.85, 0.75, -0.3), (-0.85, 0.5, 0.45)),
    "wave": ((0.95, 0, 0.1), (0.4, -1, 0.1)), "up": ((0.45, -1, 0), (0.1, -1, 0)),
    "out": ((1, 0.15, 0), (1, -0.15, 0)), "pocket": ((0.45, 1, -0.2), (-0.25, 1, 0.3)),
    "chest": ((0.35, 1, 0.1), (-0.75, -0.35, 0.5)), "give": ((0.3, 0.8, 0.6), (0.2, -0.1, 1)),
    "front": ((0.15, 1, 0.5), (0.05, 0.8, 0.6)), "back": ((0.2, 1, -0.5), (0.1, 1, -0.25)),
    "point": ((0.9, -0.35, 0.1), (0.95, -0.5, 0.1)), "flat": ((0.28, 1, 0), (0.24, 1, 0)),
}
LEGS = {
    "stand": ((0.06, 1, 0), (0.02, 1, 0)), "apart": ((0.28, 1, 0.05), (0.22, 1, 0)),
    "rest": ((0.22, 1, 0.25), (0.02, 1, -0.15)), "cross": ((-0.16, 1, 0.1), (-0.22, 1, 0)),
    "front": ((0.04, 1, 0.5), (0.02, 1, 0.15)), "back": ((0.02, 1, -0.2), (0.02, 1, -0.6)),
    "raised": ((0.3, 0.6, 0.8), (-0.1, 1, -0.3)), "jump": ((0.5, 1, 0.2), (0.25, 1, -0.5)),
}
POSES = [  # left arm, right arm, left leg, right leg; as often the other way round
    "down down stand stand", "down down stand rest", "hip hip apart apart", "hip down rest stand",
    "wave down stand stand", "wave hip stand rest", "up up apart apart", "up up jump jump",
    "out out stand stand", "pocket pocket stand rest", "chest down stand rest",
    "back front front back", "back front front back", "front back back front",
    "front wave back front", "give down stand stand", "point hip apart stand",
    "out out raised stand", "up hip cross stand", "chest hip stand cross", "pocket wave rest stand",
]
# fmt: on


def unit(vector):
    return vector / (np.hypot(*vector) + 1e-9)


def stand(words, rng=None):
    """A skeleton, float (14, 3): its joints to the left, down and forward. words: as in POSES."""
    joints = {"neck": (0, 0, 2), "head top": (rng.normal(0, 2.2) if rng else 0, -21, 3.5)}
    for k, word in enumerate(words):
        side, table = ("left", "right")[k % 2], (ARMS, LEGS)[k // 2]
        names, lengths, place = (ARM, LEG)[k // 2]
        mirror = np.array([SIDES[side], 1, 1])
        joints[f"{side} {names[0]}"] = place = place * mirror
        for name, length, way in zip(names[1:], lengths, table[word]):
            way = way * mirror + (rng.normal(0, 0.06, 3) if rng else 0)
            joints[f"{side} {name}"] = place = place + way * length / np.linalg.norm(way)
    return np.array([joints[name] for name in JOINTS])


def take_pose(seed, behind=True):
    """A pose that people take: the JOINTS, float (14, 2), x and y (down) as shares of a picture.

    They stand, walk, wave, jump; seen from the front, turned to a side, or (unless behind is False)
    from behind, when the left joints are at the viewer's left. `seed`: an integer >= 0.
    """
    rng = np.random.default_rng([seed, len(JOINTS)])
    front, aside, back = rng.uniform(-20, 20), rng.uniform(25, 65), rng.uniform(140, 220)
    yaw = rng.choice([front, aside, -aside, back], p=(0.44, 0.18, 0.18, 0.2))
    yaw = np.radians(yaw if behind or yaw != back else front)
    words, order = pick(rng, POSES).split(), [0, 1, 2, 3] if rng.random() < 0.5 else [1, 0, 3, 2]
    spots = stand([words[k] for k in order], rng)
    spots = np.stack([spots[:, 0] * np.cos(yaw) + spots[:, 2] * np.sin(yaw), spots[:, 1]], 1)
    lean = np.radians(np.clip(rng.normal(0, 3), -6, 6))  # to a side, from the hips on
    spots[6:, 0] += (30 - spots[6:, 1]) * np.sin(lean)
    low, high = spots.min(0) - [5, 4], spots.max(0) + [5, 7]
    scale = min(rng.uniform(0.88, 0.95) / 102, *0.96 / (high - low))
    foot = 0.97 - ("jump" in words) * min(0.05, 0.97 - scale * (high - low)[1])
    return (spots - [(low + high)[0] / 2, high[1]]) * scale + [0.5 + rng.uniform(-0.02, 0.02), foot]
