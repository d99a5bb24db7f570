"""Little painted people in any pose, and their clothes alone, as a shop shows them.

A pose is 14 joints. Lengths are in parts of a person, who is some 95 of them tall; what is round (a
head, a chest) is painted by its angle: 0 is its front, a quarter turn its left. So a person who
turns, turns buttons, prints and eyes along, until they are out of sight.
"""

import io
import json
import zipfile
from functools import partial
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageChops, ImageDraw
from tqdm import tqdm

from drawings.faces import (
    BEND,
    CIRCLE,
    CLOTH,
    DYED,
    GREY,
    HAIR,
    SHADE,
    SKIN,
    WALL,
    Sketch,
    mix,
    oval,
    pick,
    smooth,
)
from machinery.files import atomic_write
from machinery.processes import map_in_processes

ZOOM = 3  # drawn ZOOM times larger, then reduced: the anti-aliasing
JOINTS = (
    "right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle", "right wrist",
    "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist", "neck", "head top",
)  # fmt: skip
INK, WHITE = (44, 28, 34), (252, 249, 244)

# fmt: off
COLORS = CLOTH + [(214, 60, 66), (44, 110, 186), (250, 208, 74), (82, 164, 92), (244, 244, 240),
                  (70, 160, 190), (242, 138, 84), (244, 172, 190), (120, 84, 160), (96, 66, 52),
                  (180, 214, 190), (176, 190, 222), (40, 62, 54), (128, 40, 58), (140, 144, 150)]
BELOW = [(58, 78, 120), (58, 78, 120), (88, 116, 160), (52, 50, 60), (96, 86, 76), (196, 170, 130),
         (70, 84, 70), (130, 132, 140), (120, 70, 60), (226, 218, 200), (44, 52, 78), (160, 80, 96)]
LEATHER = [(60, 44, 40), (120, 76, 48), (236, 234, 230), (40, 38, 46), (196, 64, 62), (70, 96, 140)]

# Tops: their lengths from the neck on, sleeves (26: to the wrist) and necks.
TOPS = {
    "T-shirt": ((32, 35), (8, 8, 11), ("round", "round", "vee", "boat")),
    "shirt": ((33, 37), (9, 26, 26), ("collar",)),
    "jumper": ((32, 35), (26,), ("round", "vee", "turtle")),
    "hoodie": ((33, 36), (26,), ("hood",)),
    "coat": ((46, 60), (26,), ("lapel",)),
    "dress": ((44, 62), (0, 8, 8, 16, 26), ("round", "vee", "boat", "collar")),
}

# Arms and legs of the left side: where their bones point to (to the left, down, forward).
ARMS = {
    "down": ((0.25, 1, 0), (0.08, 1, 0.15)), "hip": ((0.85, 0.75, -0.3), (-0.85, 0.5, 0.45)),
    "wave": ((0.95, 0, 0.1), (0.4, -1, 0.1)), "up": ((0.45, -1, 0), (0.1, -1, 0)),
    "out": ((1, 0.15, 0), (1, -0.15, 0)), "pocket": ((0.45, 1, -0.2), (-0.25, 1, 0.3)),
    "chest": ((0.35, 1, 0.1), (-0.75, -0.35, 0.5)), "give": ((0.3, 0.8, 0.6), (0.2, -0.1, 1)),
    "front": ((0.15, 1, 0.5), (0.05, 0.8, 0.6)), "back": ((0.2, 1, -0.5), (0.1, 1, -0.25)),
    "point": ((0.9, -0.35, 0.1), (0.95, -0.5, 0.1)),
}
LEGS = {
    "stand": ((0.06, 1, 0), (0.02, 1, 0)), "apart": ((0.28, 1, 0.05), (0.22, 1, 0)),
    "rest": ((0.22, 1, 0.25), (0.02, 1, -0.15)), "cross": ((-0.16, 1, 0.1), (-0.22, 1, 0)),
    "front": ((0.04, 1, 0.5), (0.02, 1, 0.15)), "back": ((0.02, 1, -0.2), (0.02, 1, -0.6)),
    "raised": ((0.3, 0.6, 0.8), (-0.1, 1, -0.3)), "jump": ((0.5, 1, 0.2), (0.25, 1, -0.5)),
}
POSES = [  # left arm, right arm, left leg, right leg; as often mirrored
    "down down stand stand", "down down stand stand", "hip hip apart apart", "hip down rest stand",
    "wave down stand stand", "wave hip stand rest", "up up apart apart", "up up jump jump",
    "out out stand stand", "pocket pocket stand rest", "chest down stand rest",
    "back front front back", "back front front back", "front back back front",
    "front wave back front", "give down stand stand", "point hip apart stand",
    "out out raised stand", "up hip cross stand", "chest hip stand cross", "pocket wave rest stand",
]
# fmt: on


def unit(vector):
    return vector / (np.hypot(*vector) + 1e-9)


def take_pose(seed):
    """A pose that people take: the JOINTS, float (14, 2), x and y from 0 to 1 (y downwards).

    They stand, walk, wave, jump; seen from the front, turned, or from behind, which is when the
    left joints are at the viewer's left.
    """
    rng = np.random.default_rng([seed, len(JOINTS)])
    yaw = rng.choice([rng.uniform(-20, 20), rng.uniform(25, 65) * pick(rng, (-1, 1)),
                      rng.uniform(140, 220)], p=(0.45, 0.35, 0.2))  # fmt: skip
    words, flip = pick(rng, POSES).split(), rng.random() < 0.5
    if flip:
        words = [words[i] for i in (1, 0, 3, 2)]
    bones = {}
    for side, x in ("left", 1), ("right", -1):
        (_, arm), (_, leg) = [(k, words[2 * k + (side == "right")]) for k in (0, 1)]
        start = np.array([[x * 9, 2.0, -2], [x * 4.6, 30, 0]])
        for table, word, origin, names, lengths in [
            (ARMS, arm, start[0], ("shoulder", "elbow", "wrist"), (14.5, 13)),
            (LEGS, leg, start[1], ("hip", "knee", "ankle"), (21, 20)),
        ]:
            bones[f"{side} {names[0]}"] = spot = origin
            for name, vector, length in zip(names[1:], table[word], lengths):
                vector = np.array(vector) * [x, 1, 1] + rng.normal(0, 0.06, 3)
                spot = spot + vector * (length / np.linalg.norm(vector))
                bones[f"{side} {name}"] = spot
    bones["neck"] = np.array([0, 0, 2.0])
    bones["head top"] = np.array([rng.normal(0, 2.2), -21.0, 3.5])
    points = np.array([bones[name] for name in JOINTS])
    yaw, lean = np.radians(yaw), np.radians(np.clip(rng.normal(0, 3), -6, 6))
    points = points[:, :2] * [np.cos(yaw), 1] + points[:, 2:] * [np.sin(yaw), 0.0]
    above = np.isin(np.arange(14), range(6, 14))[:, None]  # bends to a side at the hips
    turn = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    points = np.where(above, (points - [0, 30]) @ turn + [0, 30], points)
    low, high = points.min(0) - [5, 4], points.max(0) + [5, 7]
    scale = min(rng.uniform(0.88, 0.95) / 102, *(0.98 / (high - low)))
    middle = (low + high) / 2
    shift = [0.5 + rng.uniform(-0.02, 0.02), 0.97 - (high - middle)[1] * scale]
    if "jump" in words:
        shift[1] -= min(0.05, shift[1] - (middle - low)[1] * scale)
    return (points - middle) * scale + shift


def meet(seed):
    """Everything about person `seed`."""
    rng = np.random.default_rng(seed)
    dark, woman = rng.random(), rng.random() < 0.5
    tone = dark * (len(SKIN) - 1.01)
    skin = mix(SKIN[int(tone)], SKIN[int(tone) + 1], tone % 1)
    hair = HAIR[int(rng.random() ** (1 + 4 * dark) * len(HAIR))]
    old = rng.random() < 0.15
    hair = pick(rng, GREY) if old else pick(rng, DYED) if rng.random() < 0.1 else hair
    styles = "long wavy bob bun tail afro pigtails" if woman else "crop crop curls afro bald bun"
    kinds = [kind for kind in TOPS if woman or kind != "dress"] + ["T-shirt", "shirt", "jumper"]
    kind = pick(rng, kinds + ["dress"] * 2 * woman)
    lengths, sleeves, necks = TOPS[kind]
    color, second, third = (COLORS[k] for k in rng.choice(len(COLORS), 3, replace=False))
    patterns = "plain plain stripes wide vertical checks dots block yoke print print".split()
    if kind in ("T-shirt", "jumper", "hoodie"):
        patterns += ["print"] * 3
    top = SimpleNamespace(
        kind=kind, hem=rng.uniform(*lengths), sleeve=pick(rng, sleeves), neck=pick(rng, necks),
        color=color, second=second, third=third, pattern=pick(rng, patterns),
        period=rng.uniform(3.5, 8), motif=pick(rng, list(MOTIFS)), size=rng.uniform(4, 5.5),
        sleeves=pick(rng, [color, color, color, second]), trim=pick(rng, [color, second]),
        buttons=kind in ("shirt", "coat") or (kind == "dress" and rng.random() < 0.3),
        pocket=pick(rng, ["", "", "breast", "hips"]), flare=rng.uniform(0.1, 0.4),
        button=pick(rng, [WHITE, INK, second]), belt=kind in ("coat", "dress") and rng.random() < 0.4,
        ease=dict(coat=1.6, hoodie=1.3, jumper=1).get(kind, 0.5) + rng.uniform(0, 0.5),
    )  # fmt: skip
    below = "trousers trousers shorts" + " skirt" * 2 * woman
    return SimpleNamespace(
        skin=skin, shade=mix(skin, skin * SHADE, 0.8), hair=hair, woman=woman, top=top,
        hair_dark=mix(hair, (22, 14, 24), 0.35), style=pick(rng, styles.split()),
        below=pick(rng, below.split()), below_color=pick(rng, BELOW), wide=rng.uniform(0.2, 1.2),
        skirt=rng.uniform(40, 58), shoe=pick(rng, LEATHER), boots=rng.random() < 0.2,
        sock=pick(rng, [WHITE, *COLORS]), stout=rng.uniform(0.9, 1.15), glasses=rng.random() < 0.2,
        beard=not woman and rng.random() < 0.35, hat=pick(rng, [""] * 5 + ["beanie", "cap"]),
        hat_color=pick(rng, COLORS), wall=mix(pick(rng, WALL), WHITE, rng.uniform(0.5, 0.8)),
        floor=mix(pick(rng, WALL), WHITE, rng.uniform(0.3, 0.6)), horizon=rng.uniform(92, 106),
    )  # fmt: skip


STAR = np.stack([np.sin(np.arange(10) * np.pi / 5), -np.cos(np.arange(10) * np.pi / 5)], 1)
HEART = smooth([(0, -0.45), (0.5, -0.85), (1, -0.35), (0.55, 0.4), (0, 0.95), (-0.55, 0.4),
                (-1, -0.35), (-0.5, -0.85)])  # fmt: skip
# Pictures on clothes: outlines of -1 to 1, and which of two colors they have.
MOTIFS = {
    "star": [(STAR * np.tile([[1], [0.45]], (5, 1)), 0)],
    "heart": [(HEART, 0)],
    "sun": [(STAR * 1.1 * np.tile([[1], [0.7]], (5, 1)), 0), (CIRCLE * 0.55, 1)],
    "ring": [(CIRCLE, 0), (CIRCLE * 0.55, 1)],
    "flower": [(CIRCLE * 0.42 + spot * 0.6, 0) for spot in STAR[::2]] + [(CIRCLE * 0.35, 1)],
    "cat": [(smooth([(-1, -0.9), (-0.4, -0.5), (0.4, -0.5), (1, -0.9), (0.9, 0.4), (0, 0.8), (-0.9, 0.4)]), 0),
            (oval(-0.4, 0, 0.14, 0.2), 1), (oval(0.4, 0, 0.14, 0.2), 1)],
    "hills": [(np.array([(-1.1, 0.8), (-0.3, -0.7), (0.4, 0.8)]), 0), (np.array([(-0.1, 0.8), (0.55, -0.2), (1.1, 0.8)]), 1)],
    "bolt": [(np.array([(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2)]), 0)],
    "bars": [(oval(0, y, 1.1, 0.2), k) for k, y in enumerate((-0.6, 0, 0.6))],
}  # fmt: skip


class Patch:
    """A piece of cloth or skin between two edges: (n, 2) points each, at lengths `v` along it."""

    def __init__(self, v, left, right, girth, yaw=0.0, flat=False):
        self.v, self.left, self.right = v, np.asarray(left), np.asarray(right)
        self.girth, self.yaw, self.flat = girth, yaw, flat

    def at(self, u, v):
        """Where u (-1: left edge, 1: right edge) and v are in the picture, (n, 2)."""
        x0, y0, x1, y1 = (np.interp(v, self.v, edge) for edge in (*self.left.T, *self.right.T))
        sag = (1 - u * u) * 0.06
        return np.stack(
            [x0 + (x1 - x0) * (u + 1) / 2 - (y1 - y0) * sag,
             y0 + (y1 - y0) * (u + 1) / 2 + (x1 - x0) * sag], -1)  # fmt: skip

    def outline(self, low=-1.0, high=1.0):
        v = self.v
        return np.concatenate(
            [self.at(np.full(len(v), low), v), self.at(np.full(len(v), high), v)[::-1]]
        )

    def band(self, top, bottom):
        u = np.linspace(-1, 1, 7)
        return np.concatenate([self.at(u, np.full(7, top)), self.at(u[::-1], np.full(7, bottom))])

    def round(self, points):
        """Points of its surface (lengths around it from the front, and along it) in the picture.

        Gives None where they are out of sight.
        """
        points = np.asarray(points, float)
        angle = points[:, 0] / self.girth * (np.pi / 2)
        if self.flat:
            return self.at((points[:, 0] / self.girth).clip(-1, 1), points[:, 1])
        middle = (angle.mean() + self.yaw + np.pi) % (2 * np.pi) - np.pi
        angle = angle - angle.mean() + middle
        if abs(middle) > np.pi / 2 + np.ptp(angle) / 2:
            return None
        return self.at(np.sin(angle.clip(-np.pi / 2, np.pi / 2)), points[:, 1])


class Figure(Sketch):
    """A large sheet of paper, with light and shadow on another one (0: nobody is there)."""

    def __init__(self, size):
        self.image = Image.new("RGB", (size * ZOOM, size * ZOOM), WHITE)
        self.light = Image.new("L", self.image.size)
        self.draw, self.shadow = ImageDraw.Draw(self.image), ImageDraw.Draw(self.light)
        self.zoom = size * ZOOM

    def place(self, points):
        return (np.asarray(points) * self.zoom).ravel().tolist()

    def shape(self, points, color, grey=244):
        spots = self.place(points)
        self.draw.polygon(spots, fill=color)
        self.shadow.polygon(spots, fill=grey)

    def patch(self, patch, color, edge=None):
        outline = self.place(patch.outline())
        self.draw.polygon(outline, color, edge or mix(color, INK, 0.3), max(self.zoom // 190, 1))
        self.shadow.polygon(outline, 246)

    def shade(self, patch):
        for low, high, grey in (-1, -0.8, 214), (-0.8, -0.5, 234), (0.35, 0.7, 232), (0.7, 1, 206):
            self.shadow.polygon(self.place(patch.outline(low, high)), grey)

    def finish(self, size):
        sheets = [
            self.light.point([255] + [int(255 - (255 - k) * strength) for k in range(1, 256)])
            for strength in (0.9, 1.1, 1.0)
        ]
        picture = ImageChops.multiply(self.image, Image.merge("RGB", sheets))
        return picture.reduce(ZOOM)


class Body:
    """What the joints tell: size, view, and where the parts of a body are."""

    def __init__(self, person, pose, flat=False):
        joints = np.asarray(pose, float)
        self.joints = dict(zip(JOINTS, joints))
        j, self.flat, self.person = self.joints, flat, person
        self.shoulders = (j["left shoulder"] + j["right shoulder"]) / 2
        self.hips = (j["left hip"] + j["right hip"]) / 2
        bones = [("neck", "head top", 21)]
        for side in ("left", "right"):
            bones += [(f"{side} shoulder", f"{side} elbow", 14.5), (f"{side} hip", f"{side} knee", 21),
                      (f"{side} elbow", f"{side} wrist", 13), (f"{side} knee", f"{side} ankle", 20)]  # fmt: skip
        lengths = [np.hypot(*(j[a] - j[b])) / length for a, b, length in bones]
        self.s = s = max(*lengths, np.hypot(*(self.hips - j["neck"])) / 30)
        self.down = unit(self.hips - j["neck"])
        self.across = np.array([self.down[1], -self.down[0]])
        span = j["left shoulder"] - j["right shoulder"]
        self.yaw = np.arctan2(
            (j["neck"] - self.shoulders) @ self.across / 4, span @ self.across / 18
        )
        sign = 1 if np.cos(self.yaw) > 0 else -1
        self.top_line = unit(span * sign + self.across * 8 * s)
        self.near = "right" if np.sin(self.yaw) > 0 else "left"
        self.far = "left" if self.near == "right" else "right"
        self.turned = abs(np.sin(self.yaw)) > 0.35
        self.behind = np.cos(self.yaw) < 0

    def width(self, wide, deep=0.66):
        return wide * np.hypot(np.cos(self.yaw), deep * np.sin(self.yaw)) * self.s

    def leg(self, side, v):
        hip, knee, ankle = (self.joints[f"{side} {name}"] for name in ("hip", "knee", "ankle"))
        return (
            hip + (knee - hip) * (v - 30) / 21 if v < 51 else knee + (ankle - knee) * (v - 51) / 20
        )

    def torso(self, hem, ease, start=-1.5, flare=0.0):
        """The Patch from neck (v = -1.5) or waist to the hem."""
        stout, woman = self.person.stout, self.person.woman
        nodes = [-1.5, 0.2, 1.6, 8, 20, 29]
        wide = np.array([3.6, 6.5, 9.2, 9.0, 7.4 - woman, 8.2 + 0.5 * woman])
        wide[3:] = wide[3:] * stout + ease
        v = np.array([*nodes, *np.arange(33, hem, 4), hem])
        v = np.unique(np.clip(v, start, hem))
        left, right = [], []
        neck = self.joints["neck"]
        for each in v:
            middle = neck + (self.hips - neck) * (each / 30)
            lean = self.top_line * (1 - min(max(each, 0) / 20, 1)) + self.across * min(
                max(each, 0) / 20, 1
            )
            half = self.width(np.interp(each, nodes, wide)) * lean
            a, b = middle - half, middle + half
            if each > 29:
                legs = [self.leg(side, each) for side in ("left", "right")]
                legs.sort(key=lambda spot: spot @ self.across)
                r = (3.9 * stout + ease + flare * (each - 29)) * self.s * self.across
                a, b = legs[0] - r, legs[1] + r
            left.append(a)
            right.append(b)
        return Patch(v, left, right, 13.0, self.yaw, self.flat)

    def limb(self, side, names, lengths, widths, reach):
        """The Patches of an arm or a leg, from the shoulder or hip on, `reach` long."""
        spots = [self.joints[f"{side} {name}"] for name in names]
        patches, done = [], 0
        for k, length in enumerate(lengths):
            part = min(reach - done, length) / length
            if part <= 0:
                break
            bone = spots[k + 1] - spots[k]
            along = unit(bone)
            normal = np.array([along[1], -along[0]]) * self.s
            ends = spots[k], spots[k] + bone * part
            low, high = widths[k], widths[k] + (widths[k + 1] - widths[k]) * part
            v = np.array([done, done + length * part / 2, done + length * part])
            mids, r = np.linspace(*ends, 3), np.linspace(low, high, 3)[:, None]
            patches.append(
                Patch(v, mids - normal * r, mids + normal * r, widths[k] * 1.57, 0.0, self.flat)
            )
            done += length
        return patches, spots


def pattern(sketch, patch, top, low, high):
    """The pattern of a piece of clothes, on a patch between two lengths."""
    kind, period, girth = top.pattern, top.period, patch.girth
    v = np.linspace(low, high, 7)
    if kind in ("stripes", "wide", "checks"):
        step = period * (1.4 if kind == "wide" else 1)
        for k in np.arange(np.ceil(low / step), np.ceil(high / step)):
            end = min(k * step + step * 0.45, high)
            color = top.second if k % 2 or kind != "wide" else top.third
            sketch.shape(
                patch.band(k * step, end), mix(top.color, color, 0.5 if kind == "checks" else 1)
            )
    if kind in ("vertical", "checks"):
        for x in np.arange(-round(2 * girth / period), round(2 * girth / period)) * period:
            w = period * (0.2 if kind == "vertical" else 0.16)
            line = np.concatenate(
                [np.stack([np.full(7, x - w), v], 1), np.stack([np.full(7, x + w), v[::-1]], 1)]
            )
            if (spots := patch.round(line)) is not None:
                sketch.shape(spots, top.second)
    if kind == "dots":
        for k in np.arange(np.ceil(low / period + 0.3), high / period - 0.3):
            n = max(round(4 * girth / period), 3)
            for x in (np.arange(n) + (k % 2) / 2) * 4 * girth / n:
                if (
                    spots := patch.round(CIRCLE[::2] * period * 0.24 + [x, k * period])
                ) is not None:
                    sketch.shape(spots, top.second)
    if kind == "block" and high > 18:
        sketch.shape(patch.band(max(low, 18), high), top.second)
    if kind == "yoke" and low < 8:
        sketch.shape(patch.band(low, min(8, high)), top.second)


def motif(sketch, patch, top, x, y, size):
    for outline, k in MOTIFS[top.motif]:
        if (spots := patch.round(outline * size + [x, y])) is not None:
            sketch.shape(spots, (top.second, top.third)[k % 2])


def arm(sketch, body, person, side):
    top, names = person.top, ("shoulder", "elbow", "wrist")
    if not body.flat:
        skin, spots = body.limb(side, names, (14.5, 13), (2.9, 2.5, 1.8), 27.5)
        hand = spots[2] + unit(spots[2] - spots[1]) * 1.8 * body.s
        sketch.shape(CIRCLE * 2.4 * body.s + hand, person.skin)
        sketch.shape(CIRCLE * 2.5 * body.s + spots[1], person.skin)
        sketch.shape(CIRCLE * 2.9 * body.s + spots[0], person.skin)
        for patch in skin:
            sketch.patch(patch, person.skin, person.shade)
            sketch.shade(patch)
    if top.sleeve:
        e = top.ease + 0.5
        sleeve, spots = body.limb(side, names, (14.5, 13), (3.1 + e, 2.6 + e, 2 + e), top.sleeve)
        for spot, r in zip(spots, (3.1, 2.6)[: len(sleeve)]):
            sketch.shape(CIRCLE * (r + e) * body.s + spot, top.sleeves, 234)
        for patch in sleeve:
            sketch.patch(patch, top.sleeves, top.sleeves)
            if top.sleeves == top.color:
                pattern(sketch, patch, top, patch.v[0], patch.v[-1])
            sketch.shade(patch)
        sketch.shape(sleeve[-1].band(top.sleeve - 1.6, top.sleeve), mix(top.trim, INK, 0.12))


def leg(sketch, body, person, side):
    names = ("hip", "knee", "ankle")
    tall = {"trousers": 40, "shorts": 17}.get(person.below, 0)
    skin, spots = body.limb(side, names, (21, 20), (4.4, 3.3, 2.1), 41)
    ankle = spots[2]
    sketch.shape(CIRCLE * 3.3 * body.s + spots[1], person.skin)
    for patch in skin:
        sketch.patch(patch, person.skin, person.shade)
        sketch.shade(patch)
    sketch.shape(skin[1].band(35, 41), person.sock)
    turn = body.yaw + 0.35 * (1 if side == "left" else -1)
    toe = np.array([np.sin(turn) * 5.5, 2 + 1.6 * np.cos(turn)]) * body.s
    heel = np.array([-np.sin(turn) * 0.8, 1]) * body.s
    line = np.linspace(ankle + heel, ankle + toe, 4)
    for grow, drop, color in (0.4, 0.6, mix(person.shoe, WHITE, 0.75)), (0, 0, person.shoe):
        for k, spot in enumerate(line):
            r = (2.5 - 0.12 * k + grow) * body.s
            sketch.shape(CIRCLE * [r, r * 0.82] + spot + [0, drop * body.s], color)
    if person.boots:
        boot = skin[1]
        sketch.shape(boot.band(29, 41), person.shoe)
    if tall:
        w = person.wide
        cloth, _ = body.limb(side, names, (21, 20), (4.6 + w / 2, 3.5 + w, 2.6 + w), tall)
        if len(cloth) > 1:
            sketch.shape(CIRCLE * (3.5 + w) * body.s + spots[1], person.below_color)
        sketch.shape(CIRCLE * (4.6 + w / 2) * body.s + spots[0], person.below_color)
        for patch in cloth:
            sketch.patch(patch, person.below_color)
            sketch.shade(patch)


def below(sketch, body, person):
    if person.below == "skirt":
        patch = body.torso(person.skirt, 0.3, 19, 0.2)
    else:
        patch = body.torso(32, 0.2, 19)
    sketch.patch(patch, person.below_color)
    sketch.shade(patch)


def torso(sketch, body, person):
    top = person.top
    inside = mix(top.color, INK, 0.35) if body.flat else person.skin
    patch = body.torso(top.hem, top.ease, flare=top.flare if top.hem > 40 else 0)
    sketch.patch(patch, top.color)
    pattern(sketch, patch, top, 0.0, top.hem)
    if top.pattern == "print":
        motif(sketch, patch, top, 0, 12, top.size)
    sketch.shade(patch)
    if top.trim != top.color:
        sketch.shape(patch.band(top.hem - 1.8, top.hem), top.trim)

    def paint(points, color, grey=244):
        if (spots := patch.round(points)) is not None:
            sketch.shape(spots, color, grey)

    dark = mix(top.color, INK, 0.25)
    if top.buttons or top.kind == "coat":
        paint([(-0.3, 2), (0.3, 2), (0.3, top.hem), (-0.3, top.hem)], dark)
        for y in np.arange(5, min(top.hem - 2, 40), 5):
            paint(oval(1.2, y, 0.9, 0.9), top.button)
    if top.pocket == "breast" and top.pattern != "print":
        paint([(4, 8), (8, 8), (8, 12), (6, 13), (4, 12)], dark)
    elif top.pocket == "hips" and top.kind in ("coat", "hoodie", "shirt"):
        for x in (-1, 1):
            paint([(4 * x, 23), (8 * x, 22), (9 * x, 28), (4 * x, 29)], dark)
    if top.kind == "hoodie":
        paint([(-4, 20), (4, 20), (7, 28), (-7, 28)], mix(top.color, INK, 0.15))
    if top.belt:
        sketch.shape(patch.band(19, 21.5), mix(top.trim, INK, 0.3))

    deep = {
        "round": 3.2,
        "vee": 7.5,
        "boat": 2,
        "turtle": -0.5,
        "collar": 4.5,
        "lapel": 9,
        "hood": 4,
    }[top.neck]
    vee = top.neck in ("vee", "collar", "lapel")
    hole = (
        [(-4.5, -1.6), (4.5, -1.6), (0, deep)]
        if vee
        else np.concatenate([[(-4.5, -1.6)], oval(0, -1.2, 4.5, deep + 1.2)[:12][::-1] * [1, 1]])
    )
    if top.neck != "turtle":
        paint(hole, inside, 226)


def head(sketch, body, person):
    j, s, yaw = body.joints, body.s, body.yaw
    up = unit(j["head top"] - j["neck"])
    frame = np.array([[-up[1], up[0]], -up]) * s
    centre = j["neck"] + up * 12.5 * s
    rx, ry = 7.2, 8.5

    def at(points):
        return np.asarray(points) @ frame + centre

    def skin_at(points):
        angle, y = np.asarray(points, float).T
        angle = (angle + yaw).clip(-np.pi / 2, np.pi / 2)
        return at(np.stack([rx * np.sin(angle) * np.sqrt((1 - (y / ry) ** 2).clip(0)), y], 1))

    def feature(x, y, w, h, color):
        turn = (x + yaw + np.pi) % (2 * np.pi) - np.pi
        if abs(turn) < 1.35:
            points = oval(rx * np.sin(turn), y, w * max(np.cos(turn), 0.35), h)[::2]
            sketch.shape(at(points), color)

    style = person.style
    bald = style == "bald"
    sketch.shape(
        at(oval(0, 0, rx + 0.5, ry + 0.6) - [0, 0.4]), person.skin if bald else person.hair
    )
    if style == "afro":
        sketch.shape(at(oval(0, -2, 11, 10)), person.hair)
    y = np.linspace(ry, -1, 6)
    face = np.concatenate(
        [np.stack([np.full(6, -1.3), y], 1), [(-0.9, -4), (-0.2, -5), (0.5, -4), (0.9, -3.4)],
         np.stack([np.full(6, 1.3), y[::-1]], 1)])  # fmt: skip
    sketch.shape(skin_at(face), person.skin)
    for x in (-1, 1):
        feature(x * 0.42, 0.2, 1.15, 1.5, INK)
        feature(x * 0.62, 3.4, 1.5, 1, mix(person.skin, (226, 90, 90), 0.3))
        feature(x * 0.42, -2.6, 1.6, 0.45, person.hair_dark)
    feature(0, 2.4, 0.7, 0.7, person.shade)
    feature(0, 4.8, 1.9, 0.7, mix(person.shade, (190, 50, 60), 0.6))


def neck(sketch, body, person):
    j, s = body.joints, body.s
    up = unit(j["head top"] - j["neck"])
    side = np.array([-up[1], up[0]]) * 2.6 * s
    a, b = j["neck"] - up * 3 * s, j["neck"] + up * 7 * s
    sketch.shape(np.array([a - side * 1.2, a + side * 1.2, b + side, b - side]), person.skin, 220)


def draw_body(sketch, person, pose):
    body = Body(person, pose)
    arms = [body.far, body.near]
    first = arms if body.behind else arms[:1] if body.turned else []
    for side in first:
        arm(sketch, body, person, side)
    for side in (body.far, body.near):
        leg(sketch, body, person, side)
    if person.top.kind != "dress":
        below(sketch, body, person)
    neck(sketch, body, person)
    torso(sketch, body, person)
    head(sketch, body, person)
    for side in arms:
        if side not in first:
            arm(sketch, body, person, side)


def draw_person(seed, pose=None, size=128):
    """Person `seed` in a pose (None: take_pose(seed)), an RGB image of size x size pixels.

    The seed alone decides skin, hair, clothes and the background; the pose, float (14, 2) as
    take_pose has it, where everything is and whether it is seen from the front or from behind.
    """
    person, pose = meet(seed), take_pose(seed) if pose is None else pose
    sketch = Figure(size)
    side = size * ZOOM
    sketch.draw.rectangle((0, 0, side, side), person.wall)
    sketch.draw.rectangle((0, person.horizon / 128 * side, side, side), person.floor)
    draw_body(sketch, person, pose)
    return sketch.finish(size)


def body_mask(seed, pose=None, size=128):
    """Where draw_person(seed, pose, size) shows the person, an L image: 255 there, 0 around."""
    sketch = Figure(size)
    draw_body(sketch, meet(seed), take_pose(seed) if pose is None else pose)
    return sketch.light.point([0] + [255] * 255).reduce(ZOOM)


def draw_garment(seed, size=128):
    """The top or dress of person `seed`, laid flat on white: an RGB image of size x size pixels."""
    person, sketch = meet(seed), Figure(size)
    long = max(person.top.hem, 36)
    s = 0.86 / (long + 3)
    wide = 0.34 if person.top.sleeve > 12 else 0.6
    joints = {}
    for side, x in ("left", 1), ("right", -1):
        start, way = np.array([x * 9, 2.0]), np.array([x * np.sin(wide), np.cos(wide)])
        joints |= {f"{side} shoulder": start, f"{side} elbow": start + way * 14.5,
                   f"{side} wrist": start + way * 27.5, f"{side} hip": np.array([x * 4.6, 30.0]),
                   f"{side} knee": np.array([x * 5.5, 51.0]), f"{side} ankle": np.array([x * 6, 71.0])}  # fmt: skip
    joints |= {"neck": np.array([0, 0.0]), "head top": np.array([0, -21.0])}
    pose = np.array([joints[name] for name in JOINTS]) * s + [0.5, 0.07 + 2 * s]
    body = Body(person, pose, flat=True)
    for side in ("left", "right"):
        arm(sketch, body, person, side)
    torso(sketch, body, person)
    return sketch.finish(size)


def clothes_pair(seed):
    return draw_person(seed), draw_garment(seed), None


def poses_pair(seed):
    poses = [take_pose(2 * seed), take_pose(2 * seed + 1)]
    return *(draw_person(seed, pose) for pose in poses), np.round(poses, 4).tolist()


def draw_pairs(make, seeds):
    pairs = []
    for seed in seeds:
        *halves, told = make(seed)
        pair, file = Image.new("RGB", (256, 128)), io.BytesIO()
        for k, half in enumerate(halves):
            pair.paste(half, (k * 128, 0))
        pair.save(file, "PNG")
        pairs.append((f"{seed:06d}.png", file.getvalue(), told))
    return pairs


def write_pairs(path, count, make, what):
    drawn, poses = map_in_processes(partial(draw_pairs, make), range(1, count + 1), chunk=8), {}
    bar = tqdm(desc=f"drawing {what}", total=count, disable=None)
    with bar, atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for pairs in drawn:
            for name, png, told in pairs:
                # A ZipInfo is dated 1980 unless told otherwise: the same code, the same bytes.
                archive.writestr(zipfile.ZipInfo(name), png)
                if told:
                    poses[name] = told
            bar.update(len(pairs))
        if poses:
            archive.writestr(zipfile.ZipInfo("poses.json"), json.dumps(poses))


def draw_clothes(path, count=4000):
    """Write pairs 1 to count (at most 999,999) as 000001.png ... into the zip file `path`: a person
    at the left, the top or dress alone at the right, 256 x 128 pixels.

    All cores draw. Raises RunError where the file cannot be written.
    """
    write_pairs(path, count, clothes_pair, "clothes")


def draw_poses(path, count=4000):
    """Write pairs 1 to count (at most 999,999) as 000001.png ... into the zip file `path`: a person
    in two poses, 256 x 128 pixels. Its poses.json has for each name both poses, as take_pose does.

    All cores draw. Raises RunError where the file cannot be written.
    """
    write_pairs(path, count, poses_pair, "poses")
