"""Words about faces, and StackGAN, which draws what they say."""

import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_run, save_images
from faults.test_sentences import contents, matches, rows
from PIL import Image

from applications import common, nets, stackgan, stackgan_nets
from applications.nets import place_net
from common_tools import RunError, run_as_script
from drawings import words
from drawings.faces import attributes, draw_face, draw_faces
from drawings.words import TRAITS, describe, some_of, tokens, vocabulary
from machinery.checkpoints import save_checkpoint
from machinery.constants import saved_config
from my_dataset import DRAWN_FACES, resize_and_crop

TINY = {"nc": 4, "nz": 3, "ngf": 4, "width": 8, "ndf": 4, "batch_size": 8}
PHASES = {"num_epochs": 3, "text_epochs": 1, "small_epochs": 1}
OLD_WOMAN = {"sex": "woman", "age": "old", "hair": "grey", "length": "long", "shape": "straight"}


@pytest.fixture(scope="module", autouse=True)
def quick_classifier():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets, "EPOCHS", 1)
        yield


# --- words


@pytest.fixture(scope="module")
def told():
    return [words.traits_of_drawn(seed) for seed in range(1, 121)]


def test_a_drawn_face_has_the_traits_that_its_attributes_tell(told):
    for seed, traits in enumerate(told, 1):
        has = attributes(seed)
        assert list(traits) == [name for name in TRAITS if name in traits]
        assert all(value in TRAITS[name] for name, value in traits.items())
        assert (traits["sex"] == "man") == has["Male"]
        assert (traits["glasses"] == "yes") == ("frame" in traits) == has["Eyeglasses"]
        assert (traits.get("fringe") == "yes") == has["Bangs"]
        assert has["Young"] >= (traits.get("age") == "young") and has["Smiling"] >= (
            traits.get("smile") == "yes"
        )
        for word, name in {"grey": "Gray", "black": "Black", "blond": "Blond"}.items():
            assert (traits.get("hair") == word) == has[f"{name}_Hair"]
        assert ("hair" in traits) != (traits.get("style") == "bald")
        assert ("beard" in traits) == has["Male"]
    for name, values in TRAITS.items():
        assert {traits[name] for traits in told if name in traits} >= {*values[:5]} - {"purple"}


def test_traits_can_be_seen(told):
    faces = np.stack([np.asarray(draw_face(seed), float) for seed in range(1, 121)])

    def mean(name, value, rows, columns):
        return faces[[traits.get(name) == value for traits in told], rows, columns].mean((0, 1, 2))

    eyes = slice(104, 118), slice(60, 80)
    assert mean("frame", "dark", *eyes).mean() < mean("glasses", "no", *eyes).mean() - 30
    cheeks = slice(128, 136), slice(72, 104)
    assert mean("skin", "dark", *cheeks).mean() < mean("skin", "light", *cheeks).mean() - 60
    hair = slice(44, 56), slice(78, 100)
    red, green, blue = mean("hair", "red", *hair)
    assert red > green + 40 and red > blue + 40
    beside = slice(140, 160), slice(42, 47)
    walls = [mean("length", length, *beside) for length in ("long", "short")]
    assert walls[0].mean() < walls[1].mean() - 20


def test_the_same_seed_gives_the_same_sentence(told):
    for language in ("en", "zh"):
        for seed, traits in enumerate(told[:20]):
            named = [some_of(traits, np.random.default_rng(seed)) for _ in range(2)]
            first, again = (describe(each, seed, language) for each in named)
            assert named[0] == named[1] and first == again
        assert len({describe(told[0], seed, language) for seed in range(50)}) > 45


def test_there_are_at_least_twenty_patterns_in_each_language():
    for language in ("en", "zh"):
        bare = {describe({"sex": "woman", "fringe": "yes"}, seed, language) for seed in range(4000)}
        for noun in (
            "lady",
            "woman",
            "女人",
            "女士",
            "女子",
            "一位",
            "一个",
            "bangs",
            "a fringe",
            "刘海",
        ):
            bare = {text.replace(noun, "*") for text in bare}
        assert len(bare) >= 20


def test_a_bald_man_is_called_so():
    texts = [describe({"sex": "man", "style": "bald"}, seed).lower() for seed in range(50)]
    assert all(sum(text.count(each) for each in ("bald", "no hair")) == 1 for text in texts)
    assert any("bald man" in text for text in texts) and any("bald head" in text for text in texts)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_sentence_names_what_it_is_given_and_nothing_else(told, language):
    said = words.SAID[language]
    assert {name for name in said if " " in name} >= {
        f"{name} {value}"
        for name, values in TRAITS.items() if name not in ("sex", "age")
        for value in values
    }  # fmt: skip
    colours = {value: said[f"hair {value}"].split("|") for value in TRAITS["hair"]}
    for names in colours.values() if language == "zh" else ():
        names += [f"{name[0]}{end}" for name in names if name[-1] == "色" for end in ("发", "头发")]
    for seed, traits in enumerate(told):
        named = some_of(traits, np.random.default_rng(seed))
        text = describe(named, seed, language)
        assert text[-1] in ".。" and "  " not in text and "{" not in text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), text
        assert {*tokens(text)} <= {*vocabulary()}, text
        who = "man|woman|lady|gentleman|person|someone|girl|boy|grand|granny|young|old|elderly"
        hair = re.sub(f" (black|white) (?={who})", " ", f" {text}".lower())  # without a black man
        for value, names in colours.items():
            shown = any(each in (tokens(hair) if language == "en" else text) for each in names)
            assert shown == (named.get("hair") == value), (named, text)
        glasses = any(word in text for word in ("glass", "spectacles", "镜"))
        assert glasses == ("glasses" in named), (named, text)
        if "frame" in named:
            shape = {"round": "round|圆", "square": "square|rect|方", "dark": "dark g|sung|墨|太阳"}
            assert re.search(shape[named["frame"]], text), (named, text)


@pytest.mark.parametrize(
    ("language", "traits", "usual"),
    [
        ("en", {"sex": "woman", "hair": "blond"}, ["blonde woman", "golden-haired lady"]),
        ("en", {"sex": "man", "length": "long", "hair": "red"}, ["long red-haired man"]),
        ("en", {"sex": "man", "skin": "dark"}, ["a black man", "a dark-skinned gentleman"]),
        ("en", {"sex": "woman", "fringe": "no"}, ["without bangs", "no fringe"]),
        ("en", {"sex": "man", "beard": "no"}, ["without a moustache"]),
        ("zh", {"sex": "woman", "age": "young", "hair": "blond"}, ["金发女孩", "金发的女孩"]),
        ("zh", {"sex": "man", "age": "old", "hair": "grey"}, ["白头发的老爷爷", "花白"]),
        ("zh", {"sex": "man", "glasses": "yes", "frame": "dark"}, ["戴墨镜的男人"]),
        ("zh", {"sex": "man", "style": "bald"}, ["光头男人"]),
        ("zh", {"sex": "woman", "fringe": "no"}, ["没有刘海"]),
    ],
)
def test_what_people_usually_say_is_among_the_sentences(language, traits, usual):
    texts = " ".join(describe(traits, seed, language) for seed in range(1500))
    assert all(phrase in texts for phrase in usual)
    assert not re.search("(没有|留着|扎着|梳着|剃着|顶着|一头)[^的，。]*[发头][女男]", texts)


def test_some_traits_are_one_to_six_of_those_there_are(told):
    rng = np.random.default_rng(1)
    counts = set()
    for traits in told:
        named = some_of(traits, rng)
        assert named.items() <= traits.items() and list(named) == [t for t in TRAITS if t in named]
        counts.add(len(named) - ("frame" in named))
        assert some_of(traits, rng, 1, always=["sex"]).get("sex") == traits["sex"]
    assert counts >= {1, 2, 3, 4, 5, 6} and max(counts) <= 7


def test_celebas_attributes_give_the_same_traits():
    has = dict.fromkeys(words.CELEBA, False)
    woman = words.traits_of_celeba(has | {"Young": True, "Blond_Hair": True, "Wavy_Hair": True})
    assert woman == {
        "sex": "woman", "age": "young", "hair": "blond", "shape": "wavy", "glasses": "no",
        "smile": "no", "fringe": "no",
    }  # fmt: skip
    man = {"Male": True, "Bald": True, "Gray_Hair": True, "Eyeglasses": True, "Goatee": True}
    assert words.traits_of_celeba(has | man) == {
        "sex": "man", "age": "old", "style": "bald", "glasses": "yes", "beard": "goatee",
        "smile": "no",
    }  # fmt: skip
    assert words.traits_of_celeba({"Smiling": True}) == {"smile": "yes"}


# --- what is learnt from


def small_config(folder, **changes):
    places = {"cache_dir": str(folder / "cache"), "out_dir": str(folder / "runs"), "device": "cpu"}
    return stackgan.Config(**TINY | PHASES | places | changes)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with sixty drawn faces where a program started in it would look for them."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_faces(folder / DRAWN_FACES, 60)
    return folder


@pytest.fixture(scope="module")
def run(drawn):
    """The folder of a run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(drawn)
        return Path.cwd() / stackgan.train(small_config(drawn, data_dir=DRAWN_FACES))


def test_no_face_that_is_trained_on_has_hair_that_is_kept_apart(drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    config = small_config(drawn, data_dir=DRAWN_FACES)
    data, learnt, pixels, apart, _ = stackgan.open_faces(config, torch.device("cpu"))
    assert len(learnt) == len(data.images) and len(pixels) == len(apart) > 3
    assert len(learnt) + len(apart) == 60
    hair = ("hair", "length", "shape", "style")
    trained, kept = ({tuple(map(each.get, hair)) for each in faces} for faces in (learnt, apart))
    assert not trained & kept
    assert ("black", None, None, "bun") in kept
    assert stackgan.kept_apart(OLD_WOMAN) and not stackgan.kept_apart(OLD_WOMAN | {"hair": "brown"})
    whole = [words.traits_of_drawn(seed) for seed in range(1, 61)]
    assert learnt == [each for each in whole if each not in apart]
    for real, places in data.epoch(0):  # each image with the traits of its own
        for image, place in zip(real, places.tolist()):
            seed = whole.index(learnt[place]) + 1
            face = np.asarray(resize_and_crop(draw_face(seed), 64)) / 127.5 - 1
            image = image.permute(1, 2, 0).numpy()
            assert min(abs(image - face).mean(), abs(image[:, ::-1] - face).mean()) < 0.05
        break


def test_a_sentence_names_some_of_the_traits_of_its_face():
    net = stackgan_nets.Words(vocabulary(), 8)
    faces = [OLD_WOMAN, {"sex": "man", "hair": "red", "style": "afro", "beard": "full"}] * 50
    np.random.seed(1)
    numbers, named = stackgan.sentences(net, faces)
    assert len(numbers) == len(named) == 100
    names, whole = [None, *net.numbers], 0
    for row, told, face in zip(numbers.tolist(), named.tolist(), faces):
        text = {names[number] for number in row} - {None}
        said = {value for value, is_told in zip(stackgan.VALUES, told) if is_told}
        assert said and said <= {*face.items()}
        red = text & {"red", "ginger", "auburn", "红"}
        grey = text & {"grey", "gray", "silver", "white", "灰", "银", "花"} or "白" in text
        assert bool(red) == (("hair", "red") in said)
        assert bool(grey) == (("hair", "grey") in said)
        assert ("style" in face) == (("style", "afro") in said)
        whole += {*stackgan.HAIR} & {*face} <= {name for name, _ in said}
    assert 50 < whole < 95  # all of the hair in every other one, and at times by chance


def test_the_meaning_of_a_sentence_depends_on_its_words_alone():
    net = stackgan_nets.Words(vocabulary(), 8).eval()
    long = "A portrait of an old woman with long grey hair, round glasses and a big smile."
    with torch.no_grad():
        (alone,), (beside, _) = net(net.read(["A BOY"])), net(net.read(["a boy", long]))
        other = net(net.read(["a girl"]))[0]
    assert torch.allclose(alone, beside, atol=1e-6) and not torch.allclose(alone, other)
    order = [net(net.read([text])) for text in ("long beard, grey hair", "long hair, grey beard")]
    assert not torch.allclose(*order)


def test_colors_do_not_change_the_shapes_of_stage_one():
    net = stackgan_nets.StageI(len(stackgan.VALUES), 4, 3, 4).eval()
    seen, noise = [], torch.randn(1, 3)
    net.generator.main[-3].register_forward_pre_hook(lambda _, maps: seen.append(maps[0].clone()))
    net.generator.main[-4].register_forward_hook(lambda *call: seen.append(call[-1].clone()))
    for value in (("hair", "black"), ("hair", "red"), ("skin", "dark"), ("style", "bun")):
        torch.manual_seed(1)
        net(torch.tensor([[float(each == value) for each in stackgan.VALUES]]), noise)
    before, tinted = seen[::2], seen[1::2]
    assert all(torch.equal(before[0], each) for each in before[1:3])
    assert not torch.equal(before[0], before[3]) and not torch.equal(tinted[0], tinted[1])


# --- a run


@pytest.mark.parametrize("kill_after", [8, 15])  # iterations; an epoch has six
def test_killed_it_goes_on_to_the_same_end(run, drawn, tmp_path, monkeypatch, kill_after):
    class Killed(BaseException):
        pass

    steps = itertools.count()

    def killing(step):
        def killing_step(*arguments):
            if next(steps) == kill_after:
                raise Killed
            return step(*arguments)

        return killing_step

    monkeypatch.chdir(drawn)
    for name in ("trait_step", "train_step"):
        monkeypatch.setattr(stackgan, name, killing(getattr(stackgan, name)))
    config = small_config(tmp_path, data_dir=DRAWN_FACES)
    with pytest.raises(Killed):
        stackgan.train(config)
    monkeypatch.undo()
    monkeypatch.chdir(drawn)
    resumed = stackgan.train(saved_config(stackgan.Config, "latest", config.out_dir))
    assert_same_run(resumed, run)
    assert (resumed / "figures.json").read_bytes() == (run / "figures.json").read_bytes()


def test_each_part_learns_in_its_time_and_stays(run):
    weights = [
        torch.load(run / f"checkpoint_{n}_epoch.pkl")["g_ema_model_state_dict"] for n in range(3)
    ]
    parts = {"words": 0, "first": 1, "second": 2}
    for part, learnt in parts.items():
        keys = [key for key in weights[0] if key.startswith(part) and key.endswith("weight")]
        for epoch in (1, 2):
            same = all(torch.equal(weights[epoch][key], weights[epoch - 1][key]) for key in keys)
            # the average takes the words over where the stages begin
            assert same == (epoch not in ({1} if part == "words" else {learnt})), (part, epoch)
    table = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    reading = table["loss_traits"] > 0
    assert reading[: len(table) // 3].all() and not reading[len(table) // 3 :].any()
    for name in ("loss_d", "loss_g", "loss_named", "loss_kl", "d_wrong"):
        assert ((table[name] != 0) != reading).all()


def test_a_run_learns_from_celebas_attributes(tmp_path):
    images = save_images(tmp_path / "images", 20)
    names = ["Gray_Hair", "Wavy_Hair", "Blond_Hair", "Male"]  # gray waves are kept apart
    rows = [
        f"{path.name} {' '.join('1' if n % 4 == k or k == 3 else '-1' for k in (0, 0, 1, 3))}"
        for n, path in enumerate(sorted(images.iterdir()))
    ]
    (tmp_path / "attributes.txt").write_text("\n".join(["20", " ".join(names), *rows, ""]))
    config = small_config(
        tmp_path, data_dir=str(images), attributes_file=str(tmp_path / "attributes.txt")
    )
    config.batch_size, config.num_epochs = 4, 3
    run = stackgan.train(config)
    assert json.loads((run / "figures.json").read_text())["images"] == 3
    assert Image.open(run / "epoch_002.png").size == (3 * 66 + 2, 3 * 66 + 2)


def test_the_figures_are_shares_of_what_is_named():
    torch.manual_seed(0)
    rng, values = np.random.default_rng(0), [(n, v) for n, vs in TRAITS.items() for v in vs]
    traits = [words.traits_of_drawn(seed) for seed in range(1, 25)]
    named = [some_of(each, rng) for each in traits]
    classifier = place_net(len(values)).eval()
    pictures = {name: torch.rand(24, 3, 64, 64) * 2 - 1 for name in ("real", "stage II")}
    with torch.no_grad():
        logits = classifier(pictures["real"])
        classifier[-2].bias -= logits.quantile(0.5, 0)
        seen = {name: classifier(images) > 0 for name, images in pictures.items()}
    found = stackgan.figures(classifier, pictures, stackgan.has(named), stackgan.has(traits))
    everything = {"real": [], "stage II": []}
    for name in TRAITS:
        columns = [place for place, (trait, _) in enumerate(values) if trait == name]
        right = [
            bool(seen["real"][n, place]) == (values[place][1] == each[name])
            for n, each in enumerate(traits) if name in each
            for place in columns
        ]  # fmt: skip
        assert found[name]["right"] == pytest.approx(100 * np.mean(right))
        for source, each in everything.items():
            hits = [
                bool(seen[source][n, values.index((name, said[name]))])
                for n, said in enumerate(named) if name in said
            ]  # fmt: skip
            each += hits
            assert found[name][source] == pytest.approx(100 * np.mean(hits))
    for source, each in everything.items():
        assert found["all"][source] == pytest.approx(100 * np.mean(each))
    assert found["SWD 64"]["real"] == 0 < found["SWD 64"]["stage II"]


def test_a_step_of_each_stage_written_out_again(monkeypatch):
    for module in (stackgan, stackgan_nets):
        monkeypatch.setattr(module, "augment", lambda images, policy: images)
    torch.manual_seed(0)
    size = len(stackgan.VALUES)
    net = stackgan.StackGAN(vocabulary(), 4, 3, 4, 8).double()
    torch.nn.init.normal_(net.second.decoder[-1].weight)
    judges = torch.nn.ModuleList([stackgan.Judge(side, size, 4) for side in (32, 64)]).double()
    viewer = nets.trait_net(size, 4).double().eval()
    config = stackgan.Config(bf16=False, kl=0.3, named=0.7)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.0) for each in (net, judges)]
    real = torch.rand(4, 3, 64, 64, dtype=torch.float64) * 2 - 1
    meanings, wrong = torch.rand(2, 4, size, dtype=torch.float64)
    faces = [OLD_WOMAN, {"hair": "red", "glasses": "no"}, {"sex": "man"}, {"style": "bun"}]
    named = torch.tensor(stackgan.has(faces)).double()
    for second in (False, True):
        torch.manual_seed(1)
        numbers = stackgan.train_step(
            real, meanings, wrong, named, net, judges, viewer, optimizers, config, second
        )
        torch.manual_seed(1)
        noise = torch.randn(4, 3, dtype=torch.float64)

        def codes(augment, meanings):
            """Of the formula, each number by itself."""
            mean, log_variance = augment.layer(meanings).chunk(2, 1)
            deviation = (log_variance / 2).exp()
            kl = -(1 + log_variance - mean**2 - deviation**2) / 2
            return mean + deviation * torch.randn_like(mean), kl.mean()

        shapes = meanings.clone()
        for place, (name, _) in enumerate(stackgan.VALUES):
            shapes[:, place] *= name not in ("hair", "skin")
        code, kl = codes(net.first.augment, shapes)
        drawn = torch.cat([noise, code], 1)[:, :, None, None]
        *layers, last_norm, relu, last, tanh = net.first.generator.main
        for layer in (*layers, last_norm):
            drawn = layer(drawn)
        scale, shift = net.first.tint(torch.cat([meanings, noise], 1))[:, :, None, None].split(4, 1)
        drawn = tanh(last(relu(drawn + scale * drawn + shift)))
        stage, wanted = net.first, real.unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
        if second:
            code, kl = codes(net.second.augment, meanings)
            seen = net.second.encoder(drawn.detach())
            everywhere = code[:, :, None, None].expand(-1, -1, 16, 16)
            added = net.second.decoder(torch.cat([seen, everywhere], 1))
            large = torch.nn.functional.interpolate(drawn.detach(), (64, 64), mode="bilinear")
            drawn, stage, wanted = large + added, net.second, real
        judge = judges[second]

        def p(images, words, judge=judge):
            said = judge.compress(words)[:, :, None, None].expand(-1, -1, 4, 4)
            return judge.both(torch.cat([judge.layers(images), said], 1)).flatten().sigmoid()

        right, other, fake = p(wanted, meanings), p(wanted, wrong), p(drawn.detach(), meanings)
        loss_d = -right.log().mean() - ((1 - other).log().mean() + (1 - fake).log().mean()) / 2
        large = torch.nn.functional.interpolate(drawn, size=(64, 64), mode="bilinear")
        seen, told = viewer(large).sigmoid(), 0
        for row, face in zip(seen, faces):
            for place, (name, value) in enumerate(stackgan.VALUES):
                if name in face:
                    told -= (row[place] if face[name] == value else 1 - row[place]).log() / 4
        loss_g = -p(drawn, meanings).log().mean()
        nothing = torch.zeros((), dtype=torch.float64)
        expected = [nothing, loss_d, loss_g, told, kl, right.mean(), other.mean(), fake.mean()]
        assert torch.allclose(numbers, torch.stack(expected), rtol=1e-4)
        weight = stage.augment.layer.weight
        total = loss_g + 0.7 * told + 0.3 * kl
        (gradient,) = torch.autograd.grad(total, weight, retain_graph=True)
        assert torch.allclose(weight.grad, gradient, rtol=1e-4, atol=1e-9)
        weight = judge.layers[0].weight
        (gradient,) = torch.autograd.grad(loss_d, weight)
        assert torch.allclose(weight.grad, gradient, rtol=1e-4, atol=1e-9)


def test_a_step_of_the_traits_written_out_again(monkeypatch):
    monkeypatch.setattr(stackgan, "augment", lambda images, policy: images)
    torch.manual_seed(0)
    size = len(stackgan.VALUES)
    taught = {"words": stackgan_nets.Words(vocabulary(), size), "traits": nets.trait_net(size, 4)}
    taught = torch.nn.ModuleDict(taught).double().eval()
    optimizer = torch.optim.SGD(taught.parameters(), lr=0.0)
    real = torch.rand(3, 3, 64, 64, dtype=torch.float64) * 2 - 1
    numbers = taught["words"].read(["A woman.", "一位老人", "A bearded man"])
    told, faces = [{"sex": "woman"}, {"age": "old"}, {"sex": "man", "beard": "full"}], [OLD_WOMAN]
    faces += [{"sex": "man", "age": "old"}, {"sex": "man", "age": "young", "beard": "full"}]
    shown, named = (torch.tensor(stackgan.has(each)).double() for each in (faces, told))
    found = stackgan.trait_step(
        real, shown, numbers, named, taught, optimizer, stackgan.Config(bf16=False)
    )
    seen = real.clone()  # every other as stage I would draw it
    blocks = real[1].unflatten(1, (32, 2)).unflatten(3, (32, 2)).mean((2, 4))
    seen[1] = torch.nn.functional.interpolate(blocks[None], (64, 64), mode="bilinear")[0]
    losses = []
    for p, truth in ((taught["words"](numbers), told), (taught["traits"](seen).sigmoid(), faces)):
        terms = [
            (p[n, k] if face.get(name) == value else 1 - p[n, k]).log()
            for n, face in enumerate(truth)
            for k, (name, value) in enumerate(stackgan.VALUES)
        ]
        losses.append(-torch.stack(terms).mean())
    assert torch.allclose(found[0], sum(losses)) and not found[1:].any()
    for weight, loss in zip((taught["words"].embed.weight, taught["traits"][0].weight), losses):
        (gradient,) = torch.autograd.grad(loss, weight)
        assert torch.allclose(weight.grad, gradient)


# --- using it


def test_a_picture_for_each_text(run, tmp_path, monkeypatch):
    texts = ("An old woman with long grey hair and round glasses", "一位留着红色卷发的女孩")
    monkeypatch.chdir(tmp_path)
    use = stackgan.Use(text=texts, out_dir="out", path_checkpoint=str(run), device="cpu")
    paths = stackgan.use(use)
    assert paths == [Path("out/1.png"), Path("out/2.png")] == sorted(contents(Path("out")))
    first, second = (np.asarray(Image.open(path)) for path in paths)
    assert first.shape == (2 * 66 + 2, 8 * 66 + 2, 3) and (first != second).any()
    net = common.load_net(use, "stackgan", stackgan.build)
    with torch.no_grad():
        meaning = net.words(net.words.read(texts[1:])).expand(8, -1)
        torch.manual_seed(use.seed)
        noise = torch.randn(8, 3)
        small, _ = net.first(meaning, noise)
        large, _ = net.second(meaning, small)
    for row, images in ((0, small.repeat_interleave(2, 2).repeat_interleave(2, 3)), (66, large)):
        for column, image in enumerate(images):
            tile = second[row + 2 : row + 66, 66 * column + 2 : 66 * column + 66].astype(float)
            assert abs(tile - (image.permute(1, 2, 0).numpy() + 1) * 127.5).max() < 1
    assert not np.allclose(large[0], large[1], atol=0.01)  # several noises
    again = stackgan.use(stackgan.Use(texts[1:], "again", str(run), device="cpu"))
    assert again[0].read_bytes() == paths[1].read_bytes()


def test_an_unknown_word_is_named_and_what_is_near_it():
    net = stackgan_nets.Words(vocabulary(), 8)
    for text, word, near in [
        ("A woman in a hat", "hat", "light skin.*a mohawk.*an afro"),
        ("A woman with blonnd hair", "blonnd", "blond, blonde"),
        ("一位高个子男人", "高", "皮肤白皙.*丸子头"),
        ("Une femme", "une", "light skin"),
        ("...", "nothing", "light skin"),
    ]:
        with pytest.raises(RunError, match=f"text has {word}, .*{near}"):
            net.read(["A man", text])


def test_a_text_alone_is_one_sentence(scene, tmp_path):
    config = stackgan.Use("一位女孩", str(tmp_path / "one"), str(scene / "net.pkl"), device="cpu")
    assert stackgan.use(config) == [tmp_path / "one/1.png"]
    for texts, sentence in [
        ((), "text has no sentence; give one, such as --text 'A bald man'."),
        (None, "text is None; it must be a text, or a list of texts."),
        ([1], "text is [1]; it must be a text, or a list of texts."),
    ]:
        with pytest.raises(RunError) as error:
            stackgan.use(replace(config, text=texts, out_dir=str(tmp_path / "other")))
        assert str(error.value) == sentence and not (tmp_path / "other").exists()


def test_the_released_weights_draw_what_is_said():
    released = common.RELEASED / "stackgan.pkl"
    assert released.stat().st_size < 2.5e6
    use = stackgan.Use(text=(), out_dir="", path_checkpoint=str(released))
    net = common.load_net(use, "stackgan", stackgan.build)
    texts = [
        "A woman with pale skin and long blond hair.",
        "A dark-skinned man with short black hair.",
    ]
    texts += ["一位皮肤白皙、留着金色长发的女人。", "一位皮肤黝黑、留着黑色短发的男人。"]
    torch.manual_seed(1)
    with torch.no_grad():
        meanings = net.words(net.words.read(texts)).repeat_interleave(8, 0)
    for images in net.draw(meanings):
        unit = images.shape[-1] // 32
        cheek = (
            images[:, :, 18 * unit : 20 * unit, 12 * unit : 20 * unit].mean((1, 2, 3)).view(4, 8)
        )
        assert (cheek[0].min() > cheek[1].max()) and (cheek[2].min() > cheek[3].max())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a blonde girl with glasses", "woman young blond yes"),
        ("a white-haired man without a moustache", "man grey no"),
        ("an old black man in sunglasses", "man old dark yes dark"),
        ("a woman without a fringe", "woman no"),
        ("red hair and glasses", "red yes"),
        ("金发女孩", "woman young blond"),
        ("戴墨镜的女孩", "woman young yes dark"),
        ("没有大胡子的男人", "man no"),
        ("有胡子的光头男人", "man bald full"),
        ("没有刘海的黑发女人", "woman black no"),
        ("戴眼镜的小姑娘", "woman young yes"),
        ("没有戴眼镜的小女孩", "woman young no"),
        ("一位黑人", "dark"),
        ("不笑的白人女士", "woman light no"),
        ("a man with dark hair and a white beard", "man black full"),
        ("A man without hair", "man bald"),
        ("A woman with no smile", "woman no"),
    ],
)
def test_the_released_words_are_read_as_people_mean_them(text, named):
    use = stackgan.Use(text=(), out_dir="", path_checkpoint=str(common.RELEASED / "stackgan.pkl"))
    words_net = common.load_net(use, "stackgan", stackgan.build).words
    with torch.no_grad():
        meaning = words_net(words_net.read([text]))[0]
    assert [
        value for (_, value), sure in zip(stackgan.VALUES, meaning) if sure > 0.5
    ] == named.split()


ERRORS = """
--text,A,woman,with,a,hat --out-dir out
    text has hat, which these weights do not know; what they know near it: ....
--text,A,woman --out-dir full
    out_dir full has files in it already; name a new folder.
--text,A,woman --out-dir out --path-checkpoint other.pkl
    other.pkl is of another net than applications.stackgan has; name a run or a file of it.
--out-dir log --seed 2 --path-checkpoint other.pkl
    --path-checkpoint is for using what has been trained; add --text, too.
--data-dir full --attributes-file full/attributes.txt
    of full no face has hair that is kept apart (grey wavy hair, of CelebA's attributes; of drawn faces long straight grey hair, black buns and others); add such faces.
--num-epochs 2
    num_epochs is 2; it must be more than text_epochs and small_epochs together (16), for only then stage II learns.
--data-dir full --attributes-file missing.txt
    attributes_file missing.txt does not tell the attributes of the images (...); name CelebA's ...
--named -1
    named is -1.0; it must be from 0 to 1000.
"""
NOTES = """
--text,A,woman --out-dir new
    Using net.pkl
--text,A,woman --out-dir newer
    newer/1.png: A woman
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    images = sorted(save_images(folder / "full", 12).iterdir())
    rows = ["12", "Male", *(f"{path.name} 1" for path in images), ""]
    (folder / "full/attributes.txt").write_text("\n".join(rows))
    net = stackgan.StackGAN(vocabulary(), 4, 3, 4, 8)
    for name, weights in {"net": net.state_dict(), "other": {"0.weight": torch.zeros(1)}}.items():
        save_checkpoint({"g_model_state_dict": weights}, folder / f"{name}.pkl")
    return folder


def run_in(folder, monkeypatch, capsys, command):
    flags = [word.replace("--text,", "--text=").replace(",", " ") for word in command.split()]
    if "--path-checkpoint" not in flags and "--text" in command:
        flags += ["--path-checkpoint", "net.pkl"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["stackgan.py", *flags, "--device", "cpu"])
    code = 0
    try:
        run_as_script(stackgan.main)
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize(("command", "sentence"), rows(ERRORS))
def test_an_error_is_one_sentence(scene, monkeypatch, capsys, command, sentence):
    before = contents(scene)
    code, _, error = run_in(scene, monkeypatch, capsys, command)
    assert code == 2 and before.items() <= contents(scene).items()
    assert matches(f"stackgan.py: {sentence}\n", error), error


@pytest.mark.parametrize(("command", "sentence"), rows(NOTES))
def test_a_note_is_said_on_the_way(scene, monkeypatch, capsys, command, sentence):
    code, printed, error = run_in(scene, monkeypatch, capsys, command)
    assert code == 0, error
    assert any(matches(sentence, line) for line in printed.splitlines()), printed
