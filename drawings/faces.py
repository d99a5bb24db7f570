"""Little painted portraits, for whoever has no photographs at hand to train on.

They are laid out as the aligned CelebA pictures are (178 x 218, eyes at y = 111, chin at y = 180).
Coordinates are pixels of the finished picture, x to the right and y down from the point between
the eyes; `Sketch.place` tilts, scales and shifts them all.
"""

import io
import zipfile
from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageChops, ImageDraw
from tqdm import tqdm

from machinery.files import atomic_write
from machinery.processes import map_in_processes

SIZE, ZOOM = (178, 218), 2  # drawn ZOOM times larger, then reduced: the anti-aliasing
GRID = (55, 45)  # rows and columns: soft light is worked out on them, then stretched


# fmt: off
SKIN = [(255, 230, 208), (252, 216, 188), (242, 196, 160), (220, 168, 126), (184, 130, 94),
        (142, 96, 68), (106, 70, 54)]  # from light to dark: any mixture of two neighbours
HAIR = [(38, 30, 34), (62, 42, 36), (98, 64, 44), (138, 92, 58), (170, 76, 40), (214, 170, 98),
        (232, 204, 142)]
GREY = [(150, 148, 150), (198, 196, 196), (236, 233, 228)]
DYED = [(226, 112, 150), (92, 138, 196), (104, 166, 140), (146, 104, 178), (204, 60, 66)]
IRIS = [(74, 46, 32), (104, 66, 38), (128, 104, 52), (84, 130, 84), (78, 122, 172), (112, 132, 150)]
LIPS = [(190, 44, 58), (206, 84, 96), (150, 40, 70), (222, 106, 92)]
HAIR_NAMES = ["Black_Hair", *["Brown_Hair"] * 4, "Blond_Hair", "Blond_Hair"]  # of HAIR's colors
HAIR_WORDS = ["black", "brown", "brown", "brown", "red", "blond", "blond"]  # what people call them
DYED_WORDS = ["pink", "blue", "green", "purple", "red"]
FRAME = [(36, 32, 36), (98, 58, 36), (150, 44, 48), (190, 150, 80), (52, 76, 110)]
CLOTH = [(206, 84, 70), (58, 78, 120), (238, 226, 202), (64, 122, 112), (226, 168, 72),
         (52, 50, 60), (150, 98, 138), (120, 156, 190), (150, 160, 96), (232, 150, 140)]
WALL = [(242, 220, 184), (168, 204, 204), (240, 182, 152), (150, 176, 140), (120, 142, 184),
        (226, 226, 218), (196, 164, 194), (92, 104, 124), (244, 206, 110), (112, 90, 90)]
INK, WINE, WHITE = (44, 28, 30), (96, 30, 36), (252, 248, 242)
SHADE, BLUSH = np.float32([[0.72, 0.58, 0.58], [1.0, 0.76, 0.74]])  # the skin times these

# A head of hair is a line (from the right temple to the left), a crown over it, and what hangs
# behind. CROWNS: half width, height, strength and number of its waves.
LINES = {
    "crop": [(36, -10), (34, -30), (20, -41), (0, -43), (-20, -41), (-34, -30), (-36, -10)],
    "part": [(37, -8), (35, -24), (22, -34), (2, -41), (-14, -53), (-22, -42), (-33, -30), (-37, -8)],
    "middle": [(38, 0), (35, -20), (20, -38), (0, -56), (-20, -38), (-35, -20), (-38, 0)],
    "fringe": [(38, 0), (36, -19), (24, -22), (10, -19), (-4, -22), (-18, -19), (-36, -20), (-38, 0)],
    "high": [(37, -8), (33, -36), (18, -48), (0, -51), (-18, -48), (-33, -36), (-37, -8)],
    "peak": [(37, -8), (33, -34), (22, -50), (0, -42), (-22, -50), (-33, -34), (-37, -8)],
}
CROWNS = {"thin": (40, 67, 0, 13), "flat": (42, 72, 0, 13), "tall": (43, 79, 0, 13),
          "spikes": (42, 72, 0.2, 17), "curls": (46, 77, 0.07, 19), "afro": (57, 84, 0.04, 21)}
MEN = ["bald", "bald", "mohawk", "crop thin", "crop flat", "part flat", "part tall", "high tall",
       "peak thin", "crop spikes", "crop curls", "crop afro cloud", "fringe tall",
       "middle tall wavy", "high thin bun"]
WOMEN = ["crop flat", "part tall", "crop afro cloud", "middle flat long", "part flat long",
         "fringe flat long", "part tall wavy", "middle tall wavy", "fringe flat bob",
         "part tall bob", "middle curls ringlets", "part curls ringlets", "high thin bun",
         "fringe flat bun", "middle flat pigtails"]
BEARDS = ["stubble", "full", "full", "goatee", "moustache"]
# fmt: on

T = np.linspace(0, 1, 10)[:, None]
BEND = np.hstack([(1 - T) ** 2, 2 * T * (1 - T), T**2])  # @ three points: a quadratic curve ...
LEAN = np.hstack([T - 1, 1 - 2 * T, T])  # ... and its direction
TAPER = 0.12 + 0.38 * np.sin(np.pi * T)
S = np.linspace(0, 1, 6, endpoint=False)[:, None] ** [0, 1, 2, 3]
SPLINE = S @ [[0, 1, 0, 0], [-0.5, 0, 0.5, 0], [1, -2.5, 2, -0.5], [-0.5, 1.5, -1.5, 0.5]]
SPOTS = np.indices(GRID, np.float32).reshape(2, -1)[::-1] + np.float32(0.5)
SPOTS *= np.float32([[SIZE[0] / GRID[1]], [SIZE[1] / GRID[0]]])
ROUND = np.linspace(0, 2 * np.pi, 22, endpoint=False)
CIRCLE = np.stack([np.cos(ROUND), np.sin(ROUND)], 1)


def mix(a, b, t):
    return tuple(int(x + (y - x) * t) for x, y in zip(a, b))


def pick(rng, options):
    return options[rng.integers(len(options))]


def smooth(points):
    """The closed curve (Catmull-Rom) through `points`."""
    points, n = np.asarray(points), len(points)
    return (SPLINE @ points[(np.arange(n)[:, None] + [-1, 0, 1, 2]) % n]).reshape(-1, 2)


def both(half):
    """A right half, from top to bottom, made whole."""
    return np.concatenate([half, np.array(half[::-1]) * [-1, 1]])


def oval(x, y, rx, ry):
    return CIRCLE * [rx, ry] + [x, y]


class Sketch:
    """A large sheet of paper, and where the head is on it."""

    def __init__(self, centre, scale, tilt):
        self.image = Image.new("RGB", (SIZE[0] * ZOOM, SIZE[1] * ZOOM))
        self.draw = ImageDraw.Draw(self.image)
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self.turn, self.shift = turn * scale * ZOOM, np.array(centre) * ZOOM
        self.x, self.y = np.float32(turn / scale) @ (SPOTS - np.float32(centre)[:, None])
        self.x, self.y = self.x.reshape(GRID), self.y.reshape(GRID)

    def place(self, points):
        return (points @ self.turn + self.shift).ravel().tolist()

    def shape(self, points, color):
        self.draw.polygon(self.place(points), fill=color)

    def stroke(self, points, width, color):
        """A brush stroke, thin at both ends, from the first point towards the second to the third."""
        line, along = BEND @ points, LEAN @ points
        side = along[:, ::-1] * [-width, width] * TAPER / np.hypot(*along.T)[:, None]
        self.shape(np.concatenate([line + side, (line - side)[::-1]]), color)

    def mask(self, outlines):
        mask = Image.new("L", self.image.size)
        for outline in outlines:
            ImageDraw.Draw(mask).polygon(self.place(outline), fill=255)
        return mask.reduce(ZOOM)

    def bump(self, x, y, rx, ry):
        return np.exp(-(((self.x - x) / rx) ** 2) - ((self.y - y) / ry) ** 2)


def soft(field):
    """A field (55 x 45, with colors or without) of 0..1 as a picture."""
    sheet = Image.fromarray((field.clip(0, 1) * 255).astype(np.uint8))
    return sheet.resize(SIZE, Image.Resampling.BILINEAR)


def imagine(rng):
    """Everything about a person that more than one brush has to know."""
    dark, age, woman = rng.random(), rng.beta(1.3, 2.0), rng.random() < 0.5
    tone = dark * (len(SKIN) - 1.01)
    skin = np.array(mix(SKIN[int(tone)], SKIN[int(tone) + 1], tone % 1)) + rng.normal(0, (2, 3, 3))
    number = int(rng.random() ** (1 + 5 * dark) * len(HAIR))
    hair, hair_name, hair_word = HAIR[number], HAIR_NAMES[number], HAIR_WORDS[number]
    if rng.random() < (age - 0.5) * 2.2:
        hair, hair_name = mix(hair, pick(rng, GREY), rng.uniform(0.6, 1)), "Gray_Hair"
        hair_word = "grey"
    elif rng.random() < 0.06:
        number = rng.integers(len(DYED))
        hair, hair_name, hair_word = DYED[number], "", DYED_WORDS[number]
    hair = mix(hair, WHITE, rng.uniform(0, 0.1))
    skin = tuple(int(c) for c in skin.clip(0, 255))
    shade = mix(skin, skin * SHADE, 1)
    style = pick(rng, WOMEN if woman else MEN).split()
    return SimpleNamespace(
        rng=rng, woman=woman, age=age, dark=dark, skin=skin, shade=shade,
        line=mix(skin, shade, 1.25), hair=hair, hair_dark=mix(hair, (22, 14, 24), 0.4),
        hair_name=hair_name, hair_word=hair_word,
        style=(style + ["", ""])[:3], side=pick(rng, (-1, 1)), light=rng.uniform(-1, 1),
        beard="" if woman or rng.random() < 0.55 else pick(rng, BEARDS), smile=rng.beta(2.2, 1.4),
        iris=pick(rng, IRIS[:3] if rng.random() < dark * 1.3 else IRIS), eye=rng.uniform(18, 20.5),
        wide=rng.uniform(36, 40), jaw=rng.uniform(0.82, 1) - 0.06 * woman, chin=rng.uniform(65, 71),
    )  # fmt: skip


def background(sketch, face):
    rng, near, far = face.rng, pick(face.rng, WALL), pick(face.rng, WALL)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (sketch.x * np.cos(angle) + sketch.y * np.sin(angle)) / 220 + 0.5
    layers = [(far, ramp.clip(0, 1) * rng.uniform(0.2, 1))]
    for x, y, r in rng.uniform((-90, -100, 10), (90, 90, 34), (rng.integers(0, 5), 3)):
        disc = (1.3 - np.hypot(sketch.x - x, sketch.y - y) / r).clip(0, 0.25) * 1.6
        layers.append((mix(pick(rng, WALL), WHITE, 0.3), disc))
    wall = np.array(near, np.float32)
    for color, strength in layers:
        wall = wall + (np.array(color, np.float32) - wall) * strength[..., None]
    sketch.image.paste(soft(wall / 255).resize(sketch.image.size, Image.Resampling.NEAREST))
    if rng.random() < 0.3:  # a table, a hill, a wall in two colors
        left, right = rng.uniform(-90, 90, 2)
        sketch.shape([(-150, left), (150, right), (150, 200), (-150, 200)], mix(far, near, 0.25))


def hair_behind(sketch, face):
    rng, kind, dark = face.rng, face.style[2], face.hair_dark
    if kind in ("long", "wavy"):
        wave = np.tile([0, 5], 4) * (kind == "wavy")
        fall = np.linspace([43, -34], rng.uniform((46, 80), (58, 120)), 8) + np.outer(wave, [1, 0])
        sketch.shape(smooth(both([(0, -66), (26, -60), *fall])), dark)
    elif kind == "bob":
        low = rng.uniform(48, 70)
        half = [(0, -66), (26, -60), (43, -36), (48, 0), (51, low - 20), (45, low), (20, low)]
        sketch.shape(smooth(both(half)), dark)
    elif kind in ("cloud", "ringlets"):
        for y in np.linspace(-30, 8 if kind == "cloud" else rng.uniform(40, 76), 6):
            for x, r in zip((-1, 1), rng.uniform(13, 17, 2)):
                sketch.shape(oval(x * rng.uniform(41, 46), y, r, r), dark)
    elif kind == "bun":
        sketch.shape(oval(0, -77, 20, 17), dark)
        sketch.shape(oval(2, -79, 16, 13), mix(face.hair, dark, 0.2))
    elif kind == "pigtails":
        tail = [(36, -22), (50, -30), (64, -6), (61, 34), (54, 52), (48, 30), (40, 0)]
        for x in (-1, 1):
            sketch.shape(smooth(tail) * [x, 1], dark)


def body(sketch, face):
    rng, neck, cloth = face.rng, 19 - 4 * face.woman, pick(face.rng, CLOTH)
    deep, slope, wide = rng.uniform(0, 18), rng.uniform(0, 8), 78 - 10 * face.woman
    sketch.shape(both([(neck, 40), (neck + 3, 92), (40, 120)]), mix(face.skin, face.shade, 0.35))
    chin = [(-neck, 40), (neck, 40), (neck + 1, 72), (4 * face.light, 84), (-neck - 1, 72)]
    sketch.shape(smooth(chin), mix(face.skin, face.shade, 0.9))
    hole = [(neck * 0.7, 86 + deep), (0, 92 + deep)] if rng.random() < 0.6 else [(0, 90 + deep)]
    half = [*hole[::-1], (neck + 4, 82), (44, 88 + slope), (wide, 98 + slope), (wide + 14, 180)]
    sketch.shape(both(half), cloth)
    if rng.random() < 0.35:
        for x in (-1, 1):
            flap = np.array([(neck - 2, 74), (neck + 8, 84), (neck + 4, 104), (2, 96)])
            sketch.shape(flap * [x, 1], mix(cloth, WHITE, 0.35))


def skull(face):
    w, j, chin = face.wide, face.jaw * face.wide, face.chin
    half = [(w * 0.6, -54), (w * 0.95, -32), (w, -4), (j, 30), (j * 0.72, 53), (j * 0.34, chin - 3)]
    return smooth([(0, -62), *half, (0, chin), *both(half)[len(half) :]])


def head(sketch, face):
    rng, faint = face.rng, mix(face.skin, face.shade, 0.6)
    for x in (-1, 1):
        ear = x * (face.wide + 1)
        sketch.shape(oval(ear, 10, 6, 11), mix(face.skin, face.shade, 0.45 + 0.2 * face.light * x))
        sketch.stroke([(ear, 3), (ear + 4 * x, 8), (ear, 15)], 2, face.line)
    sketch.shape(skull(face), face.skin)
    if face.age > 0.6:
        for y in rng.uniform(-38, -24, int(face.age * 4)):
            sketch.stroke([(-18, y), (0, y - 3), (18, y)], 1.2, faint)
    if rng.random() < 0.12:
        for x, y in rng.uniform((-27, 10), (27, 28), (24, 2)):
            sketch.shape(oval(x, y, 0.8, 0.8)[::4], faint)


def eyes(sketch, face):
    rng, lash = face.rng, mix(face.hair_dark, INK, 0.6)
    wide, tall = rng.uniform(9.2, 11.4), rng.uniform(4.8, 7.4) * (1 - 0.2 * face.smile)
    low, gaze = rng.uniform(0.55, 0.85), rng.uniform((-2.2, -0.8), (2.2, 1.2))
    slant, iris = rng.normal(0, 0.04), min(tall * 1.05, 5.8)
    laughs, lashes = rng.random() < 0.04, face.woman and rng.random() < 0.7
    shine = gaze - [1.9 * np.sign(face.light), 2]
    discs = []
    for cx, cy, rx, ry, color in [
        (0, 0, wide, 20, WHITE), (*gaze, iris, iris, mix(face.iris, INK, 0.5)),
        (*gaze, iris * 0.82, iris * 0.82, face.iris), (*gaze, iris * 0.46, iris * 0.46, INK),
        (*shine, 1.5, 1.5, WHITE),
    ]:  # fmt: skip
        across, down = oval(cx, cy, rx, ry).T
        lid = tall * (1 - (across / wide) ** 2)
        discs.append((np.stack([across, down.clip(-lid, low * lid)], 1), color))
    for x in (-1, 1):
        spot, turn = (x * face.eye, 0), np.array([[1, -x * slant], [x * slant, 1]])
        if laughs:
            sketch.stroke([(-wide, 2), (0, -12), (wide, 2)] @ turn + spot, 3, lash)
            continue
        for disc, color in discs:
            sketch.shape(disc @ turn + spot, color)
        for y, ends, width, color in [
            (-2 * tall, 1, 2.6 + lashes, lash), (-2.3 * tall - 3, -2, 1.4, face.line),
            (2 * low * tall + 1, 1, 1.2, face.line),
        ]:  # fmt: skip
            line = [(-wide - 1, ends), (0, y), (wide + 1, ends)]
            sketch.stroke(line @ turn + spot, width, color)
        for k in (0.75, 0.95) if lashes else ():
            root = np.array([x * wide * k, -tall * (1 - k * k)]) + spot
            sketch.stroke([root, root + [x * 2, -1], root + [x * 3.5, -4]], 1.6, lash)
        if face.age > 0.55:
            sketch.stroke([(-8, 9), (0, 14), (8, 9)] + np.array(spot), 1.2, face.shade)


def brows(sketch, face):
    thick, arch = face.rng.uniform(2.4, 4.2) + 1.4 * (not face.woman), face.rng.uniform(2, 9)
    angle, y = face.rng.normal(0, 1.6), -14 - face.rng.uniform(0, 4)
    for x in (-1, 1):
        line = [(x * 9, y + angle), (x * 20, y - arch), (x * 32, y + 2 - angle)]
        sketch.stroke(line, thick, mix(face.hair_dark, INK, 0.25))


def nose(sketch, face):
    wide, tip = face.rng.uniform((5.5, 21), (9, 27))
    kind, side = face.rng.integers(3), 1 if face.light > 0 else -1
    if kind == 0:
        sketch.stroke([(side * 4, -2), (side * 3, 14), (side * wide, tip)], 1.8, face.line)
    for x in (-1, 1):
        if kind < 2:
            wing = [(x * wide, tip - 5), (x * (wide + 3), tip + 2), (x * wide * 0.5, tip + 1)]
            sketch.stroke(wing, 1.8, face.line)
        sketch.shape(oval(x * wide * 0.45, tip + 0.8, 1.7, 1), mix(face.shade, INK, 0.45))
    sketch.stroke([(-wide * 0.8, tip), (0, tip + 5), (wide * 0.8, tip)], 2, face.line)


def beard(sketch, face):
    rng, jaw, chin, wide = face.rng, face.jaw * face.wide, face.chin, face.wide
    full = [(0, 44), (12, 36), (22, 34), (jaw - 3, 18), (wide, 0), (jaw + 2, 30),
            (jaw * 0.8, chin - 12), (jaw * 0.45, chin + 5), (0, chin + 8)]  # fmt: skip
    tache = [(0, 31), (8, 31), (18, 38), (22, 45), (12, 40), (0, 37)]
    tuft = [(0, 48), (9, 50), (13, chin - 6), (7, chin + 4), (0, chin + 6)]
    if face.beard == "stubble":
        full = np.array(full) * 0.985
    parts = {"": [], "goatee": [tuft, tache], "moustache": [tache]}.get(face.beard, [full, tache])
    for size, strength in (1.06, 0.4), (1, 1):  # a thin edge first: no razor is that exact
        strength *= 0.3 if face.beard == "stubble" else 0.92
        for part in parts:
            middle = np.mean(part, 0) * [0, 1]
            curve = (smooth(both(part)) - middle) * size + middle
            sketch.shape(curve, mix(face.skin, face.hair_dark, strength))
    if face.beard == "full":
        for x in rng.uniform(-0.8, 0.8, 12):
            line = [(x * 40, 50), (x * 40, 58), (x * 34, chin + 4 - 10 * x * x)]
            sketch.stroke(line, 1.6, mix(face.hair_dark, face.hair, 0.45))


def mouth(sketch, face):
    rng, smile = face.rng, face.smile
    wide, lift = rng.uniform(11, 14) + 4 * smile, 7 * smile - 0.5
    made_up, full = face.woman and rng.random() < 0.55, rng.uniform(2, 4) + face.woman
    lip = pick(rng, LIPS) if made_up else mix(face.shade, (206, 80, 84), 0.4)
    gap = rng.uniform(2, 4) + 6 * smile if rng.random() < 0.2 + 0.5 * smile else 0
    end, y = 42 - lift * 0.6, 42 + lift * 1.1
    curves = [[(-wide, end), (0, middle), (wide, end)]
              for middle in (y - 2 * full, y, y + 2 * gap, y + 2 * gap + 2.6 * full)]  # fmt: skip
    top, upper, lower, bottom = (BEND @ curve for curve in curves)
    sketch.shape(np.concatenate([top, bottom[::-1]]), lip)
    if gap:
        teeth = np.minimum(upper + [0, max(gap * 0.6, 2)], lower)
        sketch.shape(np.concatenate([upper, lower[::-1]]), WINE)
        sketch.shape(np.concatenate([upper, teeth[::-1]]), WHITE)
    else:
        sketch.stroke(curves[1], 2, mix(lip, INK, 0.5))
    for x in (-1, 1):
        corner = np.array([x * wide, end])
        sketch.stroke([corner + [x, -2], corner + [x * 3, 0], corner + [x, 3]], 1.4, face.line)
        if face.age > 0.5 or smile > 0.75:
            sketch.stroke([(x * 12, 26), (x * 20, 32), corner + [x * 5, 2]], 1.3, face.shade)


def glasses(sketch, face):
    face.glasses = ""
    if face.rng.random() > 0.2:
        return
    color, kind = pick(face.rng, FRAME), pick(face.rng, ("round", "square", "sun"))
    face.glasses = kind
    rx, ry = face.rng.uniform((13, 10), (15.5, 13))
    lens = CIRCLE if kind == "round" else np.sign(CIRCLE) * np.abs(CIRCLE) ** 0.55
    lens = lens * (rx, rx * 0.95 if kind == "round" else ry) + [0, 2]
    for x in (-1, 1):
        spot = [x * face.eye, 0]
        if kind == "sun":
            sketch.shape(lens + spot, mix(color, INK, 0.7))
            glint = lens * [0.3, 0.7] @ [[1, 0], [-0.4, 1]]
            sketch.shape(glint + spot - [4, 0], mix(color, WHITE, 0.25))
        rim = sketch.place(np.concatenate([lens, lens[:2]]) + spot)
        arm = sketch.place([(x * (face.eye + rx), 0), (x * (face.wide + 2), -2)])
        sketch.draw.line(rim, color, 5, joint="curve")
        sketch.draw.line(arm, color, 5)
    sketch.stroke([(rx - face.eye, 0), (0, -4), (face.eye - rx, 0)], 4, color)


def hair_outlines(face):
    line, top, back = face.style
    if line == "bald":
        return []
    if line == "mohawk":
        return [both([(0, -92), (4, -76), (9, -88), (13, -66), (14, -50), (0, -44)])]
    wide, high, wave, n = CROWNS[top]
    angle, reach = np.linspace(0, np.pi, n), 1 + wave * (np.arange(n) % 2)[:, None]
    arch = np.stack([-wide * np.cos(angle), (22 - high) * np.sin(angle)], 1) * reach - [0, 22]
    line = (np.array(LINES[line]) * [face.side, 1])[:: face.side]
    outlines = [smooth([(2 - wide, -6), *arch, (wide - 2, -6), *line])]
    if back in ("long", "wavy", "bob", "ringlets"):  # locks in front of the ears
        low, sway = 92 if back in ("long", "wavy") else 52, 4 * (back in ("wavy", "ringlets"))
        lock = [(26, -46), (41, -44), (47, -10), (49 + sway, 16), (51 - sway, low - 16), (45, low),
                (40, low - 16), (40 - sway / 2, 14), (36, -8), (33, -26)]  # fmt: skip
        outlines += [smooth(lock) * [x, 1] for x in (-1, 1)]
    return outlines


def strands(sketch, face):
    """Light and dark hairs or curls, in grey."""
    rng, sheet = face.rng, Image.new("L", sketch.image.size, 205)
    if {"curls", "afro"} & set(face.style):
        lines = CIRCLE[:14] * 5 + rng.uniform((-58, -84), (58, 50), (46, 1, 2))
    else:
        t, low = rng.uniform((-1, -20), (1, 80), (20, 2)).T
        top, high = 6 * t - 14 * face.side, np.full(20, -74)
        points = [[top, high], [t * 52, high + 12], [t * 50, low]]
        lines = BEND @ np.moveaxis(points, -1, 0)
    draw = ImageDraw.Draw(sheet)
    lines = np.reshape(sketch.place(lines), (len(lines), -1)).tolist()
    for line, grey in zip(lines, rng.integers(120, 256, len(lines)).tolist()):
        draw.line(line, grey, 2)
    return sheet.reduce(ZOOM)


def light(flat, sketch, face, skin, hair):
    """Soft light and shadow over the flat colors: in the room, on the skin, on the hair."""
    x, y, side, bump = sketch.x, sketch.y, face.light, sketch.bump
    grain = face.rng.standard_normal(GRID, np.float32)
    room = face.rng.uniform(0.9, 1) - 0.001 * side * x + 0.008 * grain
    sheet = soft(room).convert("RGB")

    small = hair.resize(GRID[::-1], Image.Resampling.BOX)
    cast = np.roll(np.asarray(small, np.float32), 1, axis=0) / 255
    edge = ((x / face.wide) ** 2 + ((y - 4) / 68) ** 2 - 0.55).clip(0, 0.6)
    sockets = bump(-face.eye, -4, 13, 9) + bump(face.eye, -4, 13, 9)
    nose = bump(5 if side > 0 else -5, 12, 5, 14) + bump(0, 30, 10, 4)
    dark = 0.75 * edge + 0.28 * sockets + 0.4 * nose + 0.3 * bump(0, 54, 10, 5) + 0.35 * cast
    dark += 0.5 * (side * x / face.wide).clip(0, 1) ** 1.3
    pink = bump(-23, 23, 12, 10) + bump(23, 23, 12, 10) + 0.6 * bump(0, 21, 7, 6)
    glow = bump(-12 * side, -36, 20, 13) + bump(-2 * side, 18, 4, 5) + bump(0, 60, 8, 5)
    glow = (0.93 + 0.09 * glow) * room
    dark, pink, glow = dark[..., None], 0.6 * pink[..., None], glow[..., None]
    sheet.paste(soft((1 - dark * (1 - SHADE)) * (1 - pink * (1 - BLUSH)) * glow), mask=skin)

    halo = np.hypot(x + 12 * side, 0.9 * (y + 4)) - 52
    gloss = 0.92 + 0.3 * np.exp(-((halo / 7) ** 2)) - 0.18 * (y / 90 + 0.3).clip(0, 1)
    gloss = (gloss - 0.25 * (side * x / 50).clip(0, 1)) * room
    sheet.paste(ImageChops.multiply(soft(gloss), strands(sketch, face)).convert("RGB"), mask=hair)
    return ImageChops.multiply(flat, sheet)


def paint(seed):
    """The sketch and the face of draw_face(seed), as yet without hair over it, and without light."""
    rng = np.random.default_rng(seed)
    face = imagine(rng)
    tilt = np.radians(np.clip(rng.normal(0, 4), -10, 10))
    sketch = Sketch(rng.normal((88.5, 111), 1.5), rng.uniform(0.95, 1.05), tilt)
    for brush in background, hair_behind, body, head, eyes, nose, beard, mouth, brows, glasses:
        brush(sketch, face)
    return sketch, face


def draw_face(seed):
    """A portrait, an RGB image of 178 x 218 pixels; `seed` (an integer >= 0) decides all of it."""
    sketch, face = paint(seed)
    outlines = hair_outlines(face)
    for outline in outlines:
        sketch.shape(outline, mix(face.hair, WHITE, 0.1))
    flat, skin, hair = sketch.image.reduce(ZOOM), sketch.mask([skull(face)]), sketch.mask(outlines)
    return light(flat, sketch, face, skin, hair)


def attributes(seed):
    """What is to be seen on draw_face(seed), {name: bool}, by the names that CelebA has for it."""
    _, face = paint(seed)
    hair = "" if face.style[0] == "bald" else face.hair_name
    return {
        name: name == hair for name in ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
    } | {
        "Eyeglasses": bool(face.glasses),
        "Bangs": face.style[0] == "fringe",
        "Smiling": face.smile > 0.6,
        "Male": not face.woman,
        "Young": face.age < 0.55,
    }


def draw_files(draw, kind, seeds):
    files = []
    for seed in seeds:
        file = io.BytesIO()
        draw(seed).save(file, {"jpg": "JPEG", "png": "PNG"}[kind], quality=92)
        files.append((f"{seed:06d}.{kind}", file.getvalue()))
    return files


def write_drawings(path, count, draw, kind, what, *others):
    """Write what draw(seed) gives for seeds 1 to count, as jpg or png, and others, (name, bytes), into
    the zip file `path`. All cores draw. Raises RunError where it cannot be written."""
    drawn = map_in_processes(partial(draw_files, draw, kind), range(1, count + 1), chunk=8)
    bar = tqdm(desc=f"drawing {what}", total=count + len(others), disable=None)
    whole = atomic_write(path, make_folder=True)
    with bar, whole as file, zipfile.ZipFile(file, "w") as archive:
        for files in chain([others], drawn):
            for name, data in files:
                # A ZipInfo is dated 1980 unless told otherwise: the same code, the same bytes.
                archive.writestr(zipfile.ZipInfo(name), data)
            bar.update(len(files))


def draw_faces(path, count=2000):
    """Write portraits 1 to count (at most 999,999) as 000001.jpg ... into the zip file `path`.

    All cores draw. Raises RunError where the file cannot be written.
    """
    write_drawings(path, count, draw_face, "jpg", "faces")
