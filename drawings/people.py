"""Little painted people in any pose, and their clothes alone, laid flat as a shop shows them.

Lengths are in parts of a person, as those of drawings/poses.py, mostly down from the neck.
What is round (a head, a chest, a sleeve) is painted by the way around it, from its front to the
person's left. So buttons, prints and eyes turn with who wears them, until they are out of sight.
"""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from drawings import faces
from drawings.faces import CIRCLE, GREY, INK, WHITE, both, mix, oval, pick, smooth, write_drawings
from drawings.poses import ARM, BONES, JOINTS, LEG, SIDES, stand, take_pose, unit

ZOOM = 3  # drawn ZOOM times larger, then reduced: the anti-aliasing

# fmt: off
COLORS = [*faces.CLOTH, (214, 60, 66), (44, 110, 186), (250, 208, 74), (82, 164, 92),
          (244, 244, 240), (70, 160, 190), (242, 138, 84), (244, 172, 190), (120, 84, 160),
          (96, 66, 52), (180, 214, 190), (176, 190, 222), (40, 62, 54), (128, 40, 58),
          (140, 144, 150)]
DENIM = [(58, 78, 120), (88, 116, 160), (52, 50, 60), (96, 86, 76), (196, 170, 130), (70, 84, 70),
         (130, 132, 140), (120, 70, 60), (226, 218, 200), (44, 52, 78), (160, 80, 96)]
LEATHER = [(60, 44, 40), (120, 76, 48), (236, 234, 230), (40, 38, 46), (196, 64, 62), (70, 96, 140)]
PATTERNS = ["", "", "stripes", "wide", "vertical", "checks", "dots", "block", "yoke"]
# Tops: how far down they go, how wide they are, sleeves (26: to the wrist), what is on them, necks.
TOPS = {
    "T-shirt": ((32, 35), 0.5, (8, 8, 11), "", ("round", "round", "vee", "boat")),
    "shirt": ((33, 37), 0.6, (9, 26, 26), "placket pocket", ("collar",)),
    "jumper": ((32, 35), 1.1, (26,), "", ("round", "vee", "turtle")),
    "hoodie": ((33, 36), 1.4, (26,), "pouch", ("hood",)),
    "coat": ((46, 60), 1.7, (26,), "placket pocket hip", ("lapel",)),
    "dress": ((46, 62), 0.5, (0, 8, 8, 16, 26), "hip", ("round", "vee", "boat", "collar")),
}
DETAILS = {  # colors and left halves of outlines, around a top from its front, and down
    "round": [("trim", oval(0, -1.6, 5.8, 6.4)), ("", oval(0, -1.6, 4.6, 4.8))],
    "boat": [("trim", oval(0, -1.6, 6.4, 4)), ("", oval(0, -1.6, 5.4, 2.8))],
    "vee": [("trim", [(0, 9.6), (5.6, -1.6), (0, -1.6)]), ("", [(0, 7.5), (4.4, -1.6), (0, -1.6)])],
    "collar": [("", [(0, 4.4), (4.4, -1.6), (0, -1.6)]), ("light", oval(24, -1.2, 6, 2.4)),
               ("light", [(0.2, 4.2), (2.6, 6.2), (6, 2), (4.2, -1.6), (3.4, -1.6)])],
    "lapel": [("second", [(0, 9.2), (4.6, -1.6), (0, -1.6)]), ("dark", oval(24, -1.2, 6, 2.4)),
              ("dark", [(0.2, 10), (3.6, 6.4), (6.4, 6), (5.6, 3.6), (5, -1.6), (3.6, -1.6)])],
    "hood": [("trim", oval(0, -1.6, 6, 6.8)), ("", oval(0, -1.6, 4.6, 5.4)),
             ("dark", oval(24, 2, 7, 7)), ("button", [(1.4, 4.4), (2, 4.4), (2.1, 11), (1.5, 11)])],
    "placket": [("dark", [(0, 6), (0.35, 6), *((0.35, y) for y in range(12, 33, 4)), (0, 32)]),
                *(("button", oval(0, y, 0.9, 0.9)) for y in range(6, 32, 5))],
    "pouch": [("dark", [(0, 20), (3.5, 20), (6.5, 28), (0, 28)])], "turtle": [],
    "pocket": [("dark", [(3.5, 8), (7, 8), (7, 12), (5.2, 13), (3.5, 12)])],
    "hip": [("dark", [(4, 24), (8, 23.5), (8.5, 29), (4.5, 30)])],
}
STAR = np.sin(np.pi / 5 * np.arange(10)[:, None] + [0, np.pi / 2]) * [1, -1]
PRINTS = [  # outlines from -1 to 1, and which of two colors they have
    [(STAR * np.tile([[1], [0.45]], (5, 1)), 0)],
    [(STAR * np.tile([[1.1], [0.75]], (5, 1)), 0), (CIRCLE * 0.5, 1)],
    [(smooth(both([(0, -0.45), (0.5, -0.85), (1, -0.35), (0.55, 0.4), (0, 0.95)])), 0)],
    [(CIRCLE, 0), (CIRCLE * 0.55, 1)],
    [*((CIRCLE * 0.42 + spot * 0.6, 0) for spot in STAR[::2]), (CIRCLE * 0.35, 1)],
    [(smooth(both([(0.4, -0.5), (1, -0.95), (0.9, 0.4), (0, 0.8)])), 0),
     (oval(-0.4, 0, 0.14, 0.2), 1), (oval(0.4, 0, 0.14, 0.2), 1)],
    [([(-1.1, 0.8), (-0.3, -0.7), (0.4, 0.8)], 0), ([(0, 0.8), (0.6, -0.2), (1.2, 0.8)], 1)],
    [([(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2)], 0)],
    [(oval(0, y, 1.1, 0.2), k) for k, y in ((0, -0.6), (1, 0), (0, 0.6))],
]
HAIR = {  # right halves of its outlines around the middle of a head (7.2 x 8.5)
    "crop": [(0, -9.6), (4.5, -8.8), (7.4, -5), (7.8, 0), (7, 3)],
    "bob": [(0, -9.8), (5, -9), (8.4, -4.5), (9.4, 3), (8.4, 9), (3, 9.5)],
    "long": [(0, -9.8), (5, -9), (8.2, -4.5), (8.8, 4), (9, 14), (7.5, 18.5), (3, 20)],
    "wavy": [(0, -9.8), (5, -9), (8.4, -4.5), (8.6, 0), (10.4, 5), (9, 10), (10, 15), (7, 18),
             (3, 19)],
    "afro": [(0, -13), (7, -11.5), (11.5, -5), (11, 2), (7.5, 7), (4, 8)],
    "curls": [(0, -10), (2.5, -11.5), (4.5, -9.5), (7.5, -9.5), (7.6, -6), (9.6, -4), (8.2, -1),
              (9, 2)],
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
BEARD = [(-1.28, 0.5), (-1, 3), (-0.4, 3.3), (0.4, 3.3), (1, 3), (1.28, 0.5), (1.28, 5),
         (1.28, 8.5), (-1.28, 8.5), (-1.28, 5)]
DOME = both([(0, -11), (4.5, -10), (7.4, -6.5), (7.9, -3.5), (4, -2.9), (0, -2.7)])  # of a hat
# Half widths of a body at some lengths, what a woman's have more, and how much of a cloth's ease.
CHEST = [(-5, -1.5, 0, 1.5, 8, 20, 29, 29.1, 99), (3.1, 3.5, 6.8, 9.6, 9, 7.6, 8.3, 3.9, 3.9),
         (0, 0, 0, -1, -1, -1, 0.4, 0, 0), (0.2, 0, 0.3, 0.5, 1, 1, 1, 1, 1)]
ROUNDING = (-1, -0.75, 212), (-0.75, -0.4, 236), (0.3, 0.65, 232), (0.65, 1, 202)  # left light
# fmt: on


def cut(color, rng=None, patterns=("",)):
    """A piece of cloth (or skin), plain unless rng chooses a pattern and colors for it."""
    cloth = SimpleNamespace(color=color, pattern="")
    if rng:
        cloth.pattern, cloth.period = pick(rng, patterns), rng.uniform(3.5, 8)
        others = [other for other in COLORS if abs(np.subtract(other, color)).max() > 50]
        cloth.second, cloth.third = (others[k] for k in rng.permutation(len(others))[:2])
    return cloth


def sew(rng, woman):
    """A top or a dress: a cloth, bands around it, details on it (outlines and their colors)."""
    kind = pick(rng, [*TOPS, "dress"] if woman else [*TOPS][:-1])
    hem, ease, sleeves, names, necks = TOPS[kind]
    prints, long, neck = ["print"] * 3 * ("placket" not in names), hem[0] > 40, pick(rng, necks)
    top = cut(pick(rng, COLORS), rng, PATTERNS + prints)
    top.kind, top.hem, top.sleeve = kind, rng.uniform(*hem), pick(rng, sleeves)
    top.ease, top.flare = ease + rng.uniform(0, 0.5), rng.uniform(0.1, 0.4) * long
    top.folds, size = rng.uniform((-9, 10, 3), (9, 28, 6), (5, 3)), rng.uniform(4.5, 6)
    top.trim = mix(pick(rng, [top.color, top.second]), INK, 0.12)
    top.arms = SimpleNamespace(**vars(top)) if rng.random() < 0.75 else cut(top.second)
    top.high, top.bands, top.details = -5 if neck == "turtle" else -1.5, [], []
    bands = (0.6, top.hem - 2, top.hem, 0), (0.4 * long, 19, 21.5, 0.3), (top.high < -2, -5, -1, 0)
    for chance, start, end, darker in bands:
        if rng.random() < chance:
            top.bands.append((start, end, mix(top.trim, INK, darker)))
    for outline, k in pick(rng, PRINTS) if top.pattern == "print" else ():
        top.details.append((np.array(outline) * size + [0, 15], (top.second, top.third)[k]))
    colors = vars(top) | {"": None, "button": pick(rng, [WHITE, INK])}
    colors |= {"dark": mix(top.color, INK, 0.2), "light": mix(top.trim, WHITE, 0.3)}
    for color, half in (detail for name in f"{names} {neck}".split() for detail in DETAILS[name]):
        top.details += [(np.array(half) * [x, 1], colors[color]) for x in (1, -1)]
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
    below = cut(pick(rng, faces.CLOTH + DENIM if woman else DENIM), rng, [""] * 8 + PATTERNS[2:7])
    kinds = ["trousers", "trousers", "shorts", *["skirt"] * 2 * woman]
    below.kind = pick(rng, kinds) * (top.kind != "dress")
    below.ease, below.hem = rng.uniform(0.2, 1.2), rng.uniform(42, 58)
    return SimpleNamespace(
        skin=cut(skin), shade=mix(skin, skin * faces.SHADE, 0.8), woman=woman, top=top, below=below,
        hair=skin if style == "bald" else hair, lock=mix(hair, (22, 14, 24), 0.3), style=style,
        fringe=fringe, legs=cut(pick(rng, COLORS) if tights else skin), shoe=pick(rng, LEATHER),
        boots=rng.random() < 0.25, sock=pick(rng, [WHITE, *COLORS]), stout=rng.uniform(-0.6, 0.9),
        glasses=rng.random() < 0.2, frame=pick(rng, faces.FRAME), beard=rng.random() < 0.35 - woman,
        hat=pick(rng, [""] * 6 + ["beanie", "cap"]), felt=pick(rng, COLORS),
        grin=rng.random() < 0.5, wall=mix(pick(rng, faces.WALL), WHITE, rng.uniform(0.5, 0.8)),
        horizon=rng.uniform(0.7, 0.83), floor=pick(rng, faces.WALL), light=rng.uniform(0.3, 0.6),
    )  # fmt: skip


class Patch:
    """A piece of cloth or skin between two edges, (2, n, 2) points at the lengths v along it.

    It ends at `end`. girth: a quarter of the way around it; yaw: how far its front is turned (None:
    it lies flat).
    """

    def __init__(self, v, edges, girth, yaw, end=99):
        self.v, self.edges, self.girth, self.yaw = v, np.hstack([*edges]).T, girth, yaw
        self.end = min(v[-1], end)

    def at(self, u, v):
        """Where u (-1 at the left edge, 1 at the right one) and v are in the picture, (n, 2)."""
        x, y, dx, dy = (np.interp(v, self.v, edge) for edge in self.edges)
        dx, dy, u, sag = dx - x, dy - y, (u + 1) / 2, (1 - u * u) * 0.06
        return np.stack([x + dx * u - dy * sag, y + dy * u + dx * sag], 1)

    def part(self, top=-99, bottom=99, left=-1, right=1):
        """The outline of a part of it: along its top, right, bottom, left."""
        v = np.array([top, *self.v, bottom]).clip(max(top, self.v[0]), min(bottom, self.end))
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
    """A large sheet of paper (light and shadow are on another one), and where a person is on it."""

    def __init__(self, person, pose, size, flat=False):
        self.person, self.flat, self.side, pose = person, flat, size * ZOOM, np.asarray(pose)
        self.image = Image.new("RGB", (self.side, self.side), "white")
        self.light = Image.new("L", self.image.size, 255)
        self.turn, self.shift = np.eye(2) * self.side, np.zeros(2)  # of place
        self.draw, self.shadow = ImageDraw.Draw(self.image), ImageDraw.Draw(self.light)
        self.neck, self.hips, self.joints = pose[12], pose[2:4].mean(0), dict(zip(JOINTS, pose))
        bones = [(self.joints[a] - self.joints[b], length) for a, b, length in BONES]
        bones += [(self.hips - self.neck, 30)]
        # How large a part of a person is: the other bones point at us or away.
        self.s = max(np.hypot(*bone) / length for bone, length in bones)
        down, up, span = unit(self.hips - self.neck), unit(pose[13] - self.neck), pose[9] - pose[8]
        self.across, self.upright = np.array([down[1], -down[0]]), np.array([[-up[1], up[0]], -up])
        # A neck is in front of its shoulders: that tells where somebody looks.
        forward = (self.neck - pose[8:10].mean(0)) @ self.across / 3.5
        self.yaw = np.arctan2(forward, span @ self.across / 17.2)
        self.behind = bool(np.cos(self.yaw) < 0)
        self.level = unit(span * (-1 if self.behind else 1) + self.across * 8 * self.s)
        self.order = ("left", "right") if forward > 0 else ("right", "left")  # the far side first

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
        for left, right, grey in ROUNDING:
            self.shape(patch.part(left=left, right=right), None, grey)
        for line in outline[6 : 6 + rows], outline[-rows:]:
            self.draw.line(self.place(line), mix(cloth.color, INK, 0.35), max(self.side // 190, 1))

    def limb(self, side, limb, widths, reach, cloth):
        """Cover an arm or a leg down to a length. Returns its joints and its Patch."""
        names, lengths, _ = limb
        spots = np.array([self.joints[f"{side} {name}"] for name in names])
        upper, lower = (unit(bone)[::-1] * [1, -1] for bone in np.diff(spots, axis=0))
        out = [upper, unit(upper + lower), lower] * (np.array(widths) * self.s)[:, None]
        v, yaw = np.cumsum([0, *lengths]), None if self.flat else 0
        for spot, wide, start in zip(spots, widths, v):
            if start < reach - 2:
                self.shape(CIRCLE * wide * self.s + spot, cloth.color, 236)
        patch = Patch(v, (spots - out, spots + out), widths[0] * 1.4, yaw, reach)
        self.cover(patch, cloth)
        return spots, patch

    def torso(self, hem, ease, start=-1.5, flare=0.0):
        """The Patch from the neck, or lower down, to a hem, be it on the legs."""
        v = np.unique(np.clip([*CHEST[0], *np.arange(32, hem, 4), hem], start, hem))
        wide, woman, more = (np.interp(v, CHEST[0], row) for row in CHEST[1:])
        more = more * (ease + self.person.stout) + flare * (v - 29).clip(0)
        wide = (wide + woman * self.person.woman) * (1.2 if self.flat else 1) + more
        wide *= np.where(v > 29, 1, np.hypot(np.cos(self.yaw), 0.68 * np.sin(self.yaw)))
        share = (v / 20).clip(0, 1)[:, None]
        half = self.s * wide[:, None] * (self.level * (1 - share) + self.across * share)
        ends = np.array([self.neck + (self.hips - self.neck) * v[:, None] / 30] * 2)
        for k in np.flatnonzero(v > 29):
            legs = ([self.joints[f"{side} {name}"] for name in LEG[0]] for side in SIDES)
            spots = [[np.interp(v[k], (30, 51, 71), row) for row in zip(*leg)] for leg in legs]
            ends[:, k] = sorted(spots, key=lambda spot: spot @ self.across)
        return Patch(v, ends + [-half, half], 12.0, None if self.flat else self.yaw)

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
        light = self.light.reduce(ZOOM).filter(ImageFilter.GaussianBlur(self.side / 400))
        warm = [light.point([255 - (255 - k) * w // 10 for k in range(256)]) for w in (9, 11, 10)]
        return ImageChops.multiply(self.image.reduce(ZOOM), Image.merge("RGB", warm))


def weave(figure, patch, cloth):
    """The pattern of a cloth on a Patch."""
    kind, period, top, bottom = cloth.pattern, cloth.period, max(patch.v[0], 0), patch.end
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
                dot = CIRCLE[::2] * period * 0.25 + [x, k * period]
                figure.shape(patch.round(dot), cloth.second)
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
        figure.shape(sleeve.part(top.sleeve - 1.7), top.trim, 230)


def leg(figure, side):
    person, below, s = figure.person, figure.person.below, figure.s
    (*_, ankle), patch = figure.limb(side, LEG, (4.4, 3.3, 2.0), 41, person.legs)
    figure.shape(patch.part(36), person.sock, 232)
    turn = figure.yaw + 0.35 * SIDES[side]
    heel, step = np.array([(-np.sin(turn), 1.2), (np.sin(turn) * 6, 1.2 + 1.5 * np.cos(turn))])
    for drop, color in (0.5, mix(person.shoe, WHITE, 0.75)), (0, person.shoe):
        for t in np.linspace(0, 1, 4):
            sole = CIRCLE * [2.5 - 0.3 * t, 2.1 - 0.2 * t] + heel + step * t + [0, drop]
            figure.shape(sole * s + ankle, color)
    if person.boots:
        figure.shape(patch.part(29), person.shoe, 232)
    if below.kind in ("trousers", "shorts"):
        widths = np.array([4.6, 3.5, 2.7]) + below.ease * np.array([0.5, 1, 1])
        figure.limb(side, LEG, widths, 40 if below.kind == "trousers" else 17, below)


def torso(figure):
    """The top or dress, without its sleeves."""
    top = figure.person.top
    patch = figure.torso(top.hem, top.ease, top.high, top.flare)
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
    person, far = figure.person, 7 if figure.person.style == "tail" else 1.5
    curve = smooth(both(HAIR[person.style])) - [far * np.sin(figure.yaw), 0]
    figure.shape(figure.head(curve), person.hair if figure.behind else person.lock)


def head(figure):
    person, paint, front = figure.person, figure.shape, np.cos(figure.yaw)
    skin, dark, half = person.skin.color, mix(person.lock, INK, 0.3), CIRCLE[np.r_[17:22, :6]]
    blush, lip = mix(skin, (232, 84, 88), 0.32), mix(person.shade, (196, 50, 62), 0.6)
    for x in (-1, 1):  # ears
        paint(figure.dot(x * 1.35, 0.5, 3, 2, 7.6), skin)
    paint(figure.head(oval(0, -0.3, 7.5, 8.8)), person.hair)
    if front > -0.6:
        left, right = ([(x, y) for y in np.linspace(0, 8.5, 5)] for x in (-1.28, 1.28))
        paint(figure.face([*left[::-1], *FRINGES[person.fringe], *right]), skin)
        if person.beard:
            paint(figure.face(BEARD), mix(person.lock, skin, 0.15))
    frames = [(0.43, 0.2, 2.9, 2.6, person.frame), (0.43, 0.2, 2.3, 2, mix(skin, WHITE, 0.5))]
    for x in (-1, 1):
        for angle, y, rx, ry, color in [
            (0.74, 3.2, 1.7, 1.1, blush), *frames * person.glasses, (0.43, 0.2, 1.2, 1.6, INK),
            (0.43 - 0.05 * x, -0.4, 0.45, 0.5, WHITE),
        ]:  # fmt: skip
            paint(figure.dot(x * angle, y, rx, ry), color)
        if np.cos(x * 0.43 + figure.yaw) > 0.15:
            brow = figure.face([(x * 0.25, -2.9), (x * 0.45, -3.7), (x * 0.7, -2.7)])
            figure.stroke(brow, figure.s, dark)
    paint(figure.dot(0, 2.3, 0.9, 0.8, 7.8), person.shade)  # the nose
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
    floor = mix(person.floor, WHITE, person.light)
    for top, color in (0, wall), (y - 0.012, mix(wall, WHITE, 0.5)), (y, floor):
        figure.draw.rectangle((0, top * figure.side, figure.side, figure.side), color)
    shadow = oval(pose[[0, 5], 0].mean(), max(pose[:, 1].max(), 0.88) + 0.035, 0.15, 0.018)
    figure.shape(shadow, mix(floor, INK, 0.15), 255)
    paint(figure)
    return figure.finish()


def draw_garment(seed, size=128):
    """The top or dress of person `seed` alone, laid flat on white, an RGB image of size x size."""
    person, spots = meet(seed), stand(["flat", "flat", "stand", "stand"])[:, :2]
    spots[6:12] += [0, 1.5]  # cloth is lower where no shoulder is in it
    scale = 0.86 / (max(person.top.hem, 40) + 3)
    pose = spots * [1.2 * scale, scale] + [0.5, 0.07 + 3 * scale]
    figure = Figure(person, pose, size, flat=True)
    for side in SIDES:
        arm(figure, side)
    torso(figure)
    return figure.finish()


def two_poses(seed):
    return np.round([take_pose(2 * seed), take_pose(2 * seed + 1)], 4)


def draw_pair(what, seed):
    # What is on the front of clothes is to be seen.
    poses = two_poses(seed) if what == "poses" else [take_pose(seed, behind=False)]
    people = [draw_person(seed, pose) for pose in poses]
    return Image.fromarray(np.hstack(people if what == "poses" else [*people, draw_garment(seed)]))


def draw_clothes(path, count=4000):
    """Write people 1 to count (at most 999,999), each beside the top or dress that they wear, as
    000001.png ... of 256 x 128 pixels into the zip file `path`.

    All cores draw. Raises RunError where the file cannot be written.
    """
    write_drawings(path, count, partial(draw_pair, "clothes"), "png", "clothes")


def draw_poses(path, count=4000):
    """Write people 1 to count (at most 999,999), each in two poses side by side, as draw_clothes
    does. For each file's name, poses.json in the zip has both as take_pose gives them.
    """
    poses = {f"{seed:06d}.png": two_poses(seed).tolist() for seed in range(1, count + 1)}
    told = "poses.json", json.dumps(poses)
    write_drawings(path, count, partial(draw_pair, "poses"), "png", "poses", told)
