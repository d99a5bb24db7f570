"""Little painted people in any pose, and their clothes alone, laid flat as a shop shows them.

A pose is 14 joints. Lengths are in parts of a person, who is 95 of them tall, down from the neck.
What is round (a head, a chest, a sleeve) is painted by the way around it, from its front to the
person's left. So buttons, prints and eyes turn with who wears them, until they are out of sight.
"""

import io
import json
import zipfile
from functools import partial
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from tqdm import tqdm

from drawings import faces
from drawings.faces import CIRCLE, GREY, INK, WHITE, both, mix, oval, pick, smooth
from machinery.files import atomic_write
from machinery.processes import map_in_processes

ZOOM = 3  # drawn ZOOM times larger, then reduced: the anti-aliasing
PAIR = 128  # pixels a side of both pictures of a pair


# fmt: off
JOINTS = ("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
          "right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow",
          "left wrist", "neck", "head top")
SIDES = {"left": 1, "right": -1}
# Limbs: their joints, how far these are apart, and where the first is (to the left, down, forward).
ARM = ("shoulder", "elbow", "wrist"), (14.5, 13), (8.6, 3.5, -1.5)
LEG = ("hip", "knee", "ankle"), (21, 20), (4.6, 30, 0)
ARMS = {  # where the bones of a left arm point to
    "down": ((0.25, 1, 0), (0.08, 1, 0.15)), "hip": ((0.85, 0.75, -0.3), (-0.85, 0.5, 0.45)),
    "wave": ((0.95, 0, 0.1), (0.4, -1, 0.1)), "up": ((0.45, -1, 0), (0.1, -1, 0)),
    "out": ((1, 0.15, 0), (1, -0.15, 0)), "pocket": ((0.45, 1, -0.2), (-0.25, 1, 0.3)),
    "chest": ((0.35, 1, 0.1), (-0.75, -0.35, 0.5)), "give": ((0.3, 0.8, 0.6), (0.2, -0.1, 1)),
    "front": ((0.15, 1, 0.5), (0.05, 0.8, 0.6)), "back": ((0.2, 1, -0.5), (0.1, 1, -0.25)),
    "point": ((0.9, -0.35, 0.1), (0.95, -0.5, 0.1)), "flat": ((0.45, 1, 0), (0.38, 1, 0)),
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

COLORS = [*faces.CLOTH, (214, 60, 66), (44, 110, 186), (250, 208, 74), (82, 164, 92),
          (244, 244, 240), (70, 160, 190), (242, 138, 84), (244, 172, 190), (120, 84, 160),
          (96, 66, 52), (180, 214, 190), (176, 190, 222), (40, 62, 54), (128, 40, 58), (140, 144, 150)]
DENIM = [(58, 78, 120), (88, 116, 160), (52, 50, 60), (96, 86, 76), (196, 170, 130), (70, 84, 70),
         (130, 132, 140), (120, 70, 60), (226, 218, 200), (44, 52, 78), (160, 80, 96)]
LEATHER = [(60, 44, 40), (120, 76, 48), (236, 234, 230), (40, 38, 46), (196, 64, 62), (70, 96, 140)]
PATTERNS = ["", "", "stripes", "wide", "vertical", "checks", "dots", "block", "yoke"]
# Tops: how far down they go, how wide they are, sleeves (26: to the wrist), necks, what is on them.
TOPS = {
    "T-shirt": ((32, 35), 0.5, (8, 8, 11), "round round vee boat", ""),
    "shirt": ((33, 37), 0.6, (9, 26, 26), "collar", "nape placket pocket"),
    "jumper": ((32, 35), 1.1, (26,), "round vee turtle", ""),
    "hoodie": ((33, 36), 1.4, (26,), "hood", "pouch string"),
    "coat": ((46, 60), 1.7, (26,), "lapel", "nape placket pocket hip"),
    "dress": ((46, 62), 0.5, (0, 8, 8, 16, 26), "round vee boat collar", "hip"),
}
NECKS = {"round": 3.4, "vee": 7.5, "boat": 1.5, "collar": 4.2, "lapel": 9, "hood": 4}  # how deep
DETAILS = {  # left halves of what is on a top, around it from its front, and down
    "collar": [(0.2, 4.2), (2.6, 6.2), (6, 2), (4.2, -1.6), (3.4, -1.6)],
    "lapel": [(0.2, 10), (3.6, 6.4), (6.4, 6), (5.6, 3.6), (5, -1.6), (3.6, -1.6)],
    "hood": oval(24, 2, 7, 7), "nape": [(18, -1.6), (24, -1.6), (24, 1), (18, 1)],
    "placket": [(0, 6), (0.35, 6), *((0.35, y) for y in range(12, 33, 4)), (0, 32)],
    "pouch": [(0, 20), (3.5, 20), (6.5, 28), (0, 28)], "string": [(1.4, 4), (2, 4), (2.1, 10), (1.5, 10)],
    "pocket": [(3.5, 8), (7, 8), (7, 12), (5.2, 13), (3.5, 12)],
    "hip": [(4, 24), (8, 23.5), (8.5, 29), (4.5, 30)],
}
STAR = np.sin(np.pi / 5 * np.arange(10)[:, None] + [0, np.pi / 2]) * [1, -1]
EYES = [(oval(x, 0, 0.14, 0.2), 1) for x in (-0.4, 0.4)]
PRINTS = [  # outlines from -1 to 1, and which of two colors they have
    [(STAR * np.tile([[1], [0.45]], (5, 1)), 0)],
    [(STAR * np.tile([[1.1], [0.75]], (5, 1)), 0), (CIRCLE * 0.5, 1)],
    [(smooth(both([(0, -0.45), (0.5, -0.85), (1, -0.35), (0.55, 0.4), (0, 0.95)])), 0)],
    [(CIRCLE, 0), (CIRCLE * 0.55, 1)],
    [*((CIRCLE * 0.42 + spot * 0.6, 0) for spot in STAR[::2]), (CIRCLE * 0.35, 1)],
    [(smooth(both([(0.4, -0.5), (1, -0.95), (0.9, 0.4), (0, 0.8)])), 0), *EYES],
    [([(-1.1, 0.8), (-0.3, -0.7), (0.4, 0.8)], 0), ([(0, 0.8), (0.6, -0.2), (1.2, 0.8)], 1)],
    [([(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2)], 0)],
    [(oval(0, y, 1.1, 0.2), k) for k, y in ((0, -0.6), (1, 0), (0, 0.6))],
]

HAIR = {  # around the middle of a head (7.2 x 8.5) in sight of its face: right halves of outlines
    "crop": [(0, -9.6), (4.5, -8.8), (7.4, -5), (7.8, 0), (7, 3)],
    "bob": [(0, -9.8), (5, -9), (8.4, -4.5), (9.4, 3), (8.4, 9), (3, 9.5)],
    "long": [(0, -9.8), (5, -9), (8.2, -4.5), (8.8, 4), (9, 14), (7.5, 18.5), (3, 20)],
    "wavy": [(0, -9.8), (5, -9), (8.4, -4.5), (8.6, 0), (10.4, 5), (9, 10), (10, 15), (7, 18), (3, 19)],
    "afro": [(0, -13), (7, -11.5), (11.5, -5), (11, 2), (7.5, 7), (4, 8)],
    "curls": [(0, -10), (2.5, -11.5), (4.5, -9.5), (7.5, -9.5), (7.6, -6), (9.6, -4), (8.2, -1), (9, 2)],
    "bun": [(0, -14.5), (3, -13.5), (3.6, -11), (2, -8)], "bald": [(0, 0), (1, 0), (0, 1)],
    "tail": [(0, -7), (3, -4), (3.4, 5), (2, 15), (0, 18)],
    "pigtails": [(0, -7), (6, -5), (10, -6), (12, 0), (11, 9), (9, 12), (8, 6), (6.5, 0), (0, -2)],
}
FRINGES = {  # where hair ends above a face: angles (in radians) and heights
    "part": [(-1.2, -2.5), (-0.6, -5.4), (-0.35, -6.4), (0.3, -4.9), (0.9, -3.2), (1.2, -1)],
    "full": [(-1.25, -1.5), (-0.8, -3.4), (0, -3), (0.8, -3.4), (1.25, -1.5)],
    "middle": [(-1.2, 0), (-0.8, -4), (0, -7), (0.8, -4), (1.2, 0)],
    "high": [(-1.15, -3.5), (-0.8, -5.8), (0, -6.4), (0.8, -5.8), (1.15, -3.5)],
}
WOMEN = ["long part", "long middle", "wavy part", "wavy middle", "bob full", "bob part", "bun high",
         "tail high", "tail full", "afro high", "pigtails middle", "pigtails full"]
MEN = ["crop part", "crop part", "crop high", "crop full", "curls part", "curls high", "afro high",
       "bald high", "bun high", "bob middle"]
BEARD = [(-1.28, 0.5), (-1, 3), (-0.4, 3.3), (0.4, 3.3), (1, 3), (1.28, 0.5), (1.28, 5), (1.28, 8.5),
         (-1.28, 8.5), (-1.28, 5)]
DOME = both([(0, -11), (4.5, -10), (7.4, -6.5), (7.9, -3.5), (4, -2.9), (0, -2.7)])  # of a hat
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
    """A pose that people take: the JOINTS, float (14, 2), x and y (downwards) as shares of a picture.

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
    scale = min(rng.uniform(0.88, 0.95) / 102, *0.98 / (high - low))
    foot = 0.97 - ("jump" in words) * min(0.05, 0.97 - scale * (high - low)[1])
    return (spots - [(low + high)[0] / 2, high[1]]) * scale + [0.5 + rng.uniform(-0.02, 0.02), foot]


def plain(color):
    return SimpleNamespace(color=color, pattern="")


def cut(rng, colors, patterns):
    """A piece of cloth."""
    second, third = (COLORS[k] for k in rng.choice(len(COLORS), 2, replace=False))
    return SimpleNamespace(color=pick(rng, colors), second=second, third=third,
                           pattern=pick(rng, patterns), period=rng.uniform(3.5, 8))  # fmt: skip


def sew(rng, woman):
    """A top or a dress: a cloth, bands around it, details on it (outlines and colors)."""
    kind = pick(rng, [*[*TOPS][:5], "T-shirt", "shirt", "jumper", *["dress"] * 3 * woman])
    hem, ease, sleeves, necks, names = TOPS[kind]
    names, long, neck = names.split(), hem[0] > 40, pick(rng, necks.split())
    top = cut(rng, COLORS, PATTERNS + ["print"] * (0 if "placket" in names else 3))
    top.kind = kind
    top.hem, top.ease, top.sleeve = (
        rng.uniform(*hem),
        ease + rng.uniform(0, 0.5),
        pick(rng, sleeves),
    )
    top.flare, top.folds = (
        rng.uniform(0.1, 0.4) * long,
        rng.uniform((-9, 10, 3), (9, 28, 6), (5, 3)),
    )
    top.trim = mix(pick(rng, [top.color, top.second]), INK, 0.12)
    top.arms = SimpleNamespace(**vars(top)) if rng.random() < 0.75 else plain(top.second)
    top.bands = [(top.hem - 2, top.hem, top.trim)] * (rng.random() < 0.6)
    top.bands += [(19, 21.5, mix(top.trim, INK, 0.3))] * (long and rng.random() < 0.4)
    top.bands += [(-5, -1, top.trim)] * (neck == "turtle")
    top.start, top.details, size = -5 if neck == "turtle" else -1.5, [], rng.uniform(4.5, 6)
    for outline, k in pick(rng, PRINTS) if top.pattern == "print" else ():
        top.details.append((np.array(outline) * size + [0, 13], (top.second, top.third)[k]))
    if neck in ("vee", "collar", "lapel"):
        hole = np.array([(-4.6, -1.6), (4.6, -1.6), (0.3, NECKS[neck]), (-0.3, NECKS[neck])])
    else:
        hole = CIRCLE[:12] * [4.6, NECKS.get(neck, -1.6) + 1.6] - [0, 1.6]
    inside = top.second if neck == "lapel" else None  # None: the skin, or the lining
    top.details += [(hole * 1.2 + [0, 0.6], top.trim), (hole, inside)] * (neck in NECKS)
    dark, light, button = (
        mix(top.color, INK, 0.2),
        mix(top.trim, WHITE, 0.3),
        pick(rng, [WHITE, INK]),
    )
    colors = {"collar": light, "nape": light if neck == "collar" else dark, "string": button}
    pockets = rng.random() < 0.6
    for name in [name for name in names if pockets or name not in ("pocket", "hip")] + [neck]:
        for x in (1, -1) if name in DETAILS else ():
            top.details.append((np.array(DETAILS[name]) * [x, 1], colors.get(name, dark)))
    for y in np.arange(6 + 5 * (kind == "coat"), 32, 5) if "placket" in names else ():
        top.details.append((oval(0, y, 0.9, 0.9), button))
    return top


def meet(seed):
    """Everything about person `seed`, whatever the pose."""
    rng = np.random.default_rng(seed)
    dark, woman = rng.random(), rng.random() < 0.5
    tone = dark * (len(faces.SKIN) - 1.01)
    skin = mix(faces.SKIN[int(tone)], faces.SKIN[int(tone) + 1], tone % 1)
    hair = [faces.HAIR[int(rng.random() ** (1 + 4 * dark) * len(faces.HAIR))]]
    hair = pick(rng, GREY if rng.random() < 0.15 else faces.DYED if rng.random() < 0.1 else hair)
    style, fringe = pick(rng, WOMEN if woman else MEN).split()
    top, tights = sew(rng, woman), woman and rng.random() < 0.3
    below = cut(rng, faces.CLOTH + DENIM if woman else DENIM, [""] * 8 + PATTERNS[2:7])
    below.kind = pick(rng, ["trousers", "trousers", "shorts", *["skirt"] * 2 * woman])
    below.kind = "" if top.kind == "dress" else below.kind
    below.ease, below.hem = rng.uniform(0.2, 1.2), rng.uniform(42, 58)
    return SimpleNamespace(
        skin=plain(skin), shade=mix(skin, skin * faces.SHADE, 0.8), woman=woman, top=top, below=below,
        hair=skin if style == "bald" else hair, lock=mix(hair, (22, 14, 24), 0.3), style=style,
        fringe=fringe, legs=plain(pick(rng, COLORS) if tights else skin), shoe=pick(rng, LEATHER),
        boots=rng.random() < 0.25, sock=pick(rng, [WHITE, *COLORS]), stout=rng.uniform(-0.6, 0.9),
        glasses=rng.random() < 0.2 and pick(rng, faces.FRAME), beard=not woman and rng.random() < 0.35,
        hat=pick(rng, [""] * 6 + ["beanie", "cap"]), felt=pick(rng, COLORS), grin=rng.random() < 0.5,
        wall=mix(pick(rng, faces.WALL), WHITE, rng.uniform(0.5, 0.8)), horizon=rng.uniform(0.7, 0.83),
        floor=mix(pick(rng, faces.WALL), WHITE, rng.uniform(0.3, 0.6)),
    )  # fmt: skip


class Patch:
    """A piece of cloth or skin between two edges, (2, n, 2) points at the lengths v along it.

    girth: a quarter of the way around it; yaw: how far its front is turned, None if it lies flat.
    """

    def __init__(self, v, edges, girth, yaw):
        self.v, self.edges, self.girth, self.yaw = v, np.hstack([*edges]).T, girth, yaw

    def at(self, u, v):
        """Where u (-1 at the left edge, 1 at the right one) and v are in the picture, (n, 2)."""
        x, y, dx, dy = (np.interp(v, self.v, edge) for edge in self.edges)
        dx, dy, u, sag = dx - x, dy - y, (u + 1) / 2, (1 - u * u) * 0.06
        return np.stack([x + dx * u - dy * sag, y + dy * u + dx * sag], 1)

    def part(self, top=-99, bottom=99, left=-1, right=1):
        """The outline of a part of it: along its top, right, bottom, left."""
        v = np.array([top, *self.v, bottom]).clip(max(top, self.v[0]), min(bottom, self.v[-1]))
        u, across = np.linspace(left, right, 6), np.ones(6)
        u = np.concatenate([u, 0 * v + right, u[::-1], 0 * v + left])
        return self.at(u, np.concatenate([across * v[0], v, across * v[-1], v[::-1]]))

    def round(self, points):
        """Points on it (around it from its front, and along it) in the picture; None if unseen."""
        x, v = np.asarray(points, float).T
        if self.yaw is None:
            return self.at((x / self.girth).clip(-1, 1), v) if abs(x).min() < self.girth else None
        angle = x / self.girth * np.pi / 2 + self.yaw
        angle -= np.round(angle.mean() / (2 * np.pi)) * 2 * np.pi
        unseen = abs(angle).min() > np.pi / 2
        return None if unseen else self.at(np.sin(angle.clip(-np.pi / 2, np.pi / 2)), v)


class Figure(faces.Sketch):
    """A large sheet of paper with a person on it in a pose, as take_pose gives it, or with clothes
    that lie flat. Light and shadow are on another sheet, black where nobody is."""

    def __init__(self, person, pose, size, flat=False):
        self.person, self.flat, self.side, pose = person, flat, size * ZOOM, np.asarray(pose)
        self.image = Image.new("RGB", (self.side, self.side), WHITE)
        self.light = Image.new("L", self.image.size)
        self.draw, self.shadow = ImageDraw.Draw(self.image), ImageDraw.Draw(self.light)
        self.joints = dict(zip(JOINTS, pose))
        self.neck, self.hips, shoulders = pose[12], pose[2:4].mean(0), pose[8:10].mean(0)
        bones = [(self.neck, self.hips, 30), (self.neck, pose[13], 21)]
        for (names, lengths, _), side in ((limb, side) for limb in (ARM, LEG) for side in SIDES):
            spots = [self.joints[f"{side} {name}"] for name in names]
            bones += zip(spots, spots[1:], lengths)
        # How large a part of a person is here: the other bones point at us or away from us.
        self.s = max(np.hypot(*(a - b)) / length for a, b, length in bones)
        down, up, span = unit(self.hips - self.neck), unit(pose[13] - self.neck), pose[9] - pose[8]
        self.across, self.upright = np.array([down[1], -down[0]]), np.array([[-up[1], up[0]], -up])
        # A neck is in front of its shoulders: that tells where somebody looks.
        forward = (self.neck - shoulders) @ self.across / 3.5
        self.yaw = np.arctan2(forward, span @ self.across / 17.2)
        self.behind = bool(np.cos(self.yaw) < 0)
        self.level = unit(span * (-1 if self.behind else 1) + self.across * 8 * self.s)
        self.order = ("left", "right") if forward > 0 else ("right", "left")  # the far side first

    def place(self, points):
        return (np.asarray(points) * self.side).ravel().tolist()

    def shape(self, points, color, grey=246):
        """Paint an outline (None: out of sight) in a color (None: as it is) and a light."""
        if points is not None:
            spots = self.place(points)
            self.shadow.polygon(spots, fill=grey)
            if color is not None:
                self.draw.polygon(spots, fill=color)

    def cover(self, patch, cloth):
        """Paint a Patch with a cloth, and make it look round."""
        outline, rows = patch.part(), len(patch.v) + 2
        self.shape(outline, cloth.color)
        if cloth.pattern:
            weave(self, patch, cloth)
        for left, right, grey in (
            (-1, -0.75, 212),
            (-0.75, -0.4, 236),
            (0.3, 0.65, 232),
            (0.65, 1, 202),
        ):
            self.shape(patch.part(left=left, right=right), None, grey)
        for line in outline[6 : 6 + rows], outline[-rows:]:
            self.draw.line(self.place(line), mix(cloth.color, INK, 0.35), max(self.side // 190, 1))

    def limb(self, side, limb, widths, reach, cloth):
        """Cover an arm or a leg down to a length. Returns its joints and Patches."""
        names, lengths, _ = limb
        spots, patches, start = [self.joints[f"{side} {name}"] for name in names], [], 0
        for a, b, length, *wide in zip(spots, spots[1:], lengths, widths, widths[1:]):
            if reach > start:
                v = np.array([start, min(start + length, reach)])
                share, along = ((v - start) / length)[:, None], unit(b - a)
                out = self.s * (wide[0] + (wide[1] - wide[0]) * share) * [along[1], -along[0]]
                middle, yaw = a + (b - a) * share, None if self.flat else 0
                patches.append(Patch(v, (middle - out, middle + out), wide[0] * 1.4, yaw))
                self.shape(CIRCLE * wide[0] * self.s + a, cloth.color, 236)
            start += length
        for patch in patches:
            self.cover(patch, cloth)
        return spots, patches

    def torso(self, hem, ease, start=-1.5, flare=0.0):
        """The Patch from the neck, or lower down, to a hem, be it on the legs."""
        nodes, woman = np.array([-5, -1.5, 0, 1.5, 8, 20, 29]), self.person.woman
        wide = np.array([3.1, 3.5, 6.8, 9.6 - woman, 9 - woman, 7.6 - woman, 8.3 + 0.4 * woman])
        wide += np.array([0.2, 0, 0.3, 0.5, 1, 1, 1]) * (ease + self.person.stout)
        wide *= np.hypot(np.cos(self.yaw), 0.68 * np.sin(self.yaw)) * (1.2 if self.flat else 1)
        v = np.unique(np.clip([*nodes, *np.arange(32, hem, 4), start, hem], start, hem))
        edges = []
        for each in v:
            if each <= 29:
                share = min(max(each / 20, 0), 1)
                half = self.s * (self.level * (1 - share) + self.across * share)
                ends = [self.neck + (self.hips - self.neck) * each / 30] * 2
                half = half * np.interp(each, nodes, wide)
            else:
                half = self.s * self.across * (3.9 + self.person.stout + ease + flare * (each - 29))
                ends = sorted(
                    (self.leg(side, each) for side in SIDES), key=lambda a: a @ self.across
                )
            edges.append([ends[0] - half, ends[1] + half])
        return Patch(v, np.moveaxis(edges, 1, 0), 12.0, None if self.flat else self.yaw)

    def leg(self, side, v):
        a, b, c = (self.joints[f"{side} {name}"] for name in LEG[0])
        return a + (b - a) * (v - 30) / 21 if v < 51 else b + (c - b) * (v - 51) / 20

    def head(self, points):
        """Points around the middle of the head in the picture."""
        return (np.asarray(points) - [0, 12.5]) @ self.upright * self.s + self.neck

    def face(self, points):
        """Points on the head (angles from the middle of the face, and heights) in the picture."""
        angle, y = np.asarray(points, float).T
        across = np.sin((angle + self.yaw).clip(-np.pi / 2, np.pi / 2))
        return self.head(np.stack([7.2 * across * np.sqrt((1 - (y / 8.5) ** 2).clip(0)), y], 1))

    def dot(self, angle, y, rx, ry, reach=7.2):
        """An oval on the head, None if it is out of sight."""
        x, turned = reach * np.sin(angle + self.yaw), np.cos(angle + self.yaw)
        return self.head(oval(x, y, rx * max(turned, 0.4), ry)) if turned > 0.15 else None

    def finish(self):
        light = self.light.point([255, *range(1, 256)]).reduce(ZOOM)
        light = light.filter(ImageFilter.GaussianBlur(self.side / 400))
        warm = [light.point([255 - (255 - k) * w // 10 for k in range(256)]) for w in (9, 11, 10)]
        return ImageChops.multiply(self.image.reduce(ZOOM), Image.merge("RGB", warm))


def weave(figure, patch, cloth):
    """The pattern of a cloth on a Patch."""
    kind, period, top, bottom = cloth.pattern, cloth.period, max(patch.v[0], 0), patch.v[-1]
    n = max(round(4 * patch.girth / period), 3)
    columns = (np.arange(n) - n // 2) * 4 * patch.girth / n
    if kind in ("stripes", "wide", "checks"):
        step = period * (1.5 if kind == "wide" else 1)
        for k in np.arange(np.ceil(top / step - 0.45), np.ceil(bottom / step)):
            color = cloth.third if kind == "wide" and k % 2 else cloth.second
            color = mix(cloth.color, color, 0.5) if kind == "checks" else color
            figure.shape(patch.part(max(k * step, top), (k + 0.45) * step), color)
    if kind in ("vertical", "checks"):
        v = np.linspace(top, bottom, 7)
        for x in columns:
            left, right = (np.stack([0 * v + x + w * period, v], 1) for w in (-0.16, 0.16))
            figure.shape(patch.round(np.concatenate([left, right[::-1]])), cloth.second)
    if kind == "dots":
        for k in np.arange(np.ceil(top / period + 0.2), bottom / period - 0.2):
            for x in columns + k % 2 * 2 * patch.girth / n:
                figure.shape(
                    patch.round(CIRCLE[::2] * period * 0.25 + [x, k * period]), cloth.second
                )
    start, end = {"block": (19, 99), "yoke": (top, 8)}.get(kind, (0, 0))
    if start < bottom and end > top:
        figure.shape(patch.part(start, end), cloth.second)


def arm(figure, side):
    person, top, wider = figure.person, figure.person.top, 1.2 if figure.flat else 1
    if not figure.flat:
        (*_, elbow, wrist), _ = figure.limb(side, ARM, (2.8, 2.3, 1.7), 27.5, person.skin)
        hand = wrist + unit(wrist - elbow) * 1.6 * figure.s
        figure.shape(CIRCLE * 2.3 * figure.s + hand, person.skin.color)
    if top.sleeve:
        widths = (np.array([2.9, 2.6, 2.2]) + top.ease * 0.8) * wider
        _, sleeve = figure.limb(side, ARM, widths, top.sleeve, top.arms)
        figure.shape(sleeve[-1].part(top.sleeve - 1.7), top.trim, 230)


def leg(figure, side):
    person, below, s = figure.person, figure.person.below, figure.s
    (*_, ankle), patches = figure.limb(side, LEG, (4.4, 3.3, 2.0), 41, person.legs)
    figure.shape(patches[1].part(36), person.sock, 232)
    turn = figure.yaw + 0.35 * SIDES[side]
    heel = np.array([-np.sin(turn), 1.2])
    step = np.array([np.sin(turn) * 6, 1.2 + 1.5 * np.cos(turn)])
    for drop, color in (0.5, mix(person.shoe, WHITE, 0.75)), (0, person.shoe):
        for t in np.linspace(0, 1, 4):
            sole = CIRCLE * [2.5 - 0.3 * t, 2.1 - 0.2 * t] + heel + step * t + [0, drop]
            figure.shape(sole * s + ankle, color)
    if person.boots:
        figure.shape(patches[1].part(29), person.shoe, 232)
    if below.kind in ("trousers", "shorts"):
        widths = np.array([4.6, 3.5, 2.7]) + below.ease * np.array([0.5, 1, 1])
        figure.limb(side, LEG, widths, 40 if below.kind == "trousers" else 17, below)


def torso(figure):
    """The top or dress, without its sleeves."""
    top = figure.person.top
    patch = figure.torso(top.hem, top.ease, top.start, top.flare)
    figure.cover(patch, top)
    for x, y, long in top.folds:
        figure.shape(patch.round([(x, y), (x * 0.6, y + long), (x * 0.8, y - 1)]), None, 220)
    for start, end, color in top.bands:
        figure.shape(patch.part(start, end), color, 232)
    inside = mix(top.color, INK, 0.4) if figure.flat else figure.person.skin.color
    for outline, color in top.details:
        figure.shape(patch.round(outline), color or inside, 238)


def hair(figure):
    """What hangs from a head or stands out from it."""
    person, back = (
        figure.person,
        -np.sin(figure.yaw) * (7 if figure.person.style == "tail" else 1.5),
    )
    curve = smooth(both(HAIR[person.style])) + [back, 0]
    figure.shape(figure.head(curve), person.hair if figure.behind else person.lock)


def head(figure):
    person, paint = figure.person, figure.shape
    skin, front, half = person.skin.color, np.cos(figure.yaw), CIRCLE[np.r_[17:22, :6]]
    for x in (-1, 1):
        paint(figure.dot(x * 1.35, 0.5, 3, 2, 7.6), skin)
    paint(figure.head(oval(0, -0.3, 7.5, 8.8)), person.hair)
    if front > -0.6:
        y = np.linspace(0, 8.5, 5)
        left, right = ([(x, each) for each in y] for x in (-1.28, 1.28))
        paint(figure.face([*left[::-1], *FRINGES[person.fringe], *right]), skin)
        if person.beard:
            paint(figure.face(BEARD), mix(person.lock, skin, 0.15))
    for x in (-1, 1):
        paint(figure.dot(x * 0.74, 3.2, 1.7, 1.1), mix(skin, (232, 84, 88), 0.32))
        if person.glasses:
            paint(figure.dot(x * 0.43, 0.2, 2.9, 2.6), person.glasses)
            paint(figure.dot(x * 0.43, 0.2, 2.3, 2.0), mix(skin, WHITE, 0.5))
        paint(figure.dot(x * 0.43, 0.2, 1.2, 1.6), INK)
        paint(figure.dot(x * 0.43 - 0.05, -0.4, 0.45, 0.5), WHITE)
        if np.cos(x * 0.43 + figure.yaw) > 0.15:
            brow = figure.face([(x * 0.25, -2.9), (x * 0.45, -3.7), (x * 0.7, -2.7)])
            figure.stroke(brow, figure.s, mix(person.lock, INK, 0.3))
    paint(figure.dot(0, 2.3, 0.9, 0.8, 7.8), person.shade)
    lip = mix(person.shade, (196, 50, 62), 0.6)
    if front > 0.15 and person.grin:
        paint(figure.face([(-0.33, 4.4), (0.33, 4.4), (0.2, 5.8), (0, 6.2), (-0.2, 5.8)]), lip)
        paint(figure.face([(-0.25, 4.4), (0.25, 4.4), (0.2, 5), (-0.2, 5)]), WHITE)
    elif front > 0.15:
        figure.stroke(figure.face([(-0.33, 4.4), (0, 6.2), (0.33, 4.4)]), 1.3 * figure.s, lip)
    for wide, grey in (5.6, 226), (6.6, 206):
        crescent = np.concatenate([half * [7.6, 8.8], half[::-1] * [wide, 8.8]]) - [0, 0.3]
        paint(figure.head(crescent), None, grey)


def crown(figure):
    """The gloss of the hair, and a hat."""
    felt, hat = figure.person.felt, figure.person.hat
    gloss = figure.head([(-5.4, -4.4), (-3.6, -8.2), (1, -8)])
    figure.stroke(gloss, 1.6 * figure.s, mix(figure.person.hair, WHITE, 0.25))
    if hat:
        figure.shape(figure.head(smooth(DOME)), felt)
    if hat == "cap":
        figure.shape(figure.dot(0, -3.4, 6.5, 1.4, 8.5), mix(felt, INK, 0.25))
    elif hat:
        for part in both([(0, -5.2), (8, -5.6), (8.2, -2.8), (0, -2.4)]), oval(0, -11.6, 2.2, 2.2):
            figure.shape(figure.head(part), mix(felt, WHITE, 0.3))


def paint(figure):
    """Brush by brush, from what is farthest away."""
    person, below, behind = figure.person, figure.person.below, figure.behind
    hidden = figure.order if behind else figure.order[: int(abs(np.sin(figure.yaw)) > 0.35)]
    if not behind:
        hair(figure)
    for side in hidden:
        arm(figure, side)
    for side in figure.order:
        leg(figure, side)
    if below.kind:
        hem, flare = (below.hem, 0.2) if below.kind == "skirt" else (32, 0)
        figure.cover(figure.torso(hem, 0.2, 19, flare), below)
    neck = [(-2.6, 5), (2.6, 5), (3.4, 15), (-3.4, 15)]
    figure.shape(figure.head(neck), person.skin.color, 205)
    for brush in [torso, head, *[hair] * behind, crown]:
        brush(figure)
    for side in figure.order[len(hidden) :]:
        arm(figure, side)


def draw_person(seed, pose=None, size=128):
    """Person `seed` (an integer >= 0) in a pose, an RGB image of size x size pixels.

    The seed alone decides skin, hair, clothes and the background. pose: float (14, 2) as take_pose
    gives it (None: as it gives it for this seed); it tells from where the person is seen, too.
    """
    person, pose = meet(seed), np.asarray(take_pose(seed) if pose is None else pose)
    figure, wall, y = Figure(person, pose, size), person.wall, person.horizon
    for top, color in (0, wall), (y - 0.012, mix(wall, WHITE, 0.5)), (y, person.floor):
        figure.draw.rectangle((0, top * figure.side, figure.side, figure.side), color)
    shadow = oval(pose[[0, 5], 0].mean(), max(pose[:, 1].max(), 0.88) + 0.035, 0.15, 0.018)
    figure.draw.polygon(figure.place(shadow), mix(person.floor, INK, 0.15))
    paint(figure)
    return figure.finish()


def body_mask(seed, pose=None, size=128):
    """Where draw_person(seed, pose, size) has the person, an L image: 255 there, 0 around."""
    figure = Figure(meet(seed), take_pose(seed) if pose is None else pose, size)
    paint(figure)
    return figure.light.point([0] + [255] * 255).reduce(ZOOM)


def draw_garment(seed, size=128):
    """The top or dress of person `seed` alone, laid flat on white, an RGB image of size x size."""
    person = meet(seed)
    scale = 0.86 / (max(person.top.hem, 37) + 3)
    pose = stand(["flat", "flat", "stand", "stand"])[:, :2] * scale + [0.5, 0.07 + 3 * scale]
    figure = Figure(person, pose, size, flat=True)
    for side in SIDES:
        arm(figure, side)
    torso(figure)
    return figure.finish()


def clothes_pair(seed):
    pose = take_pose(seed, behind=False)  # what is on the front is to be seen
    return [draw_person(seed, pose, PAIR), draw_garment(seed, PAIR)], None


def poses_pair(seed):
    poses = np.round([take_pose(2 * seed), take_pose(2 * seed + 1)], 4)
    return [draw_person(seed, pose, PAIR) for pose in poses], poses.tolist()


def draw_pngs(make, seeds):
    drawn = []
    for seed in seeds:
        pair, file, (pictures, poses) = Image.new("RGB", (2 * PAIR, PAIR)), io.BytesIO(), make(seed)
        for k, picture in enumerate(pictures):
            pair.paste(picture, (k * PAIR, 0))
        pair.save(file, "PNG")
        drawn.append((f"{seed:06d}.png", file.getvalue(), poses))
    return drawn


def write_pairs(path, count, make, what):
    drawn, told = map_in_processes(partial(draw_pngs, make), range(1, count + 1), chunk=8), {}
    bar = tqdm(desc=f"drawing {what}", total=count, disable=None)
    with bar, atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for pairs in drawn:
            for name, png, poses in pairs:
                # A ZipInfo is dated 1980 unless told otherwise: the same code, the same bytes.
                archive.writestr(zipfile.ZipInfo(name), png)
                told |= {name: poses} if poses else {}
            bar.update(len(pairs))
        if told:
            archive.writestr(zipfile.ZipInfo("poses.json"), json.dumps(told))


def draw_clothes(path, count=4000):
    """Write pairs 1 to count (at most 999,999) as 000001.png ... into the zip file `path`: a person
    at the left, the top or dress alone at the right, 256 x 128 pixels.

    All cores draw. Raises RunError where the file cannot be written.
    """
    write_pairs(path, count, clothes_pair, "clothes")


def draw_poses(path, count=4000):
    """Write pairs 1 to count (at most 999,999) as 000001.png ... into the zip file `path`: a person
    in two poses, 256 x 128 pixels. Its poses.json has, for each name, both as take_pose gives them.

    All cores draw. Raises RunError where the file cannot be written.
    """
    write_pairs(path, count, poses_pair, "poses")
