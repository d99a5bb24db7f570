"""The page of gan_explore.py, in a real browser, and the functions behind it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import types

import gradio
import pytest
import torch
from conftest import ROOT
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

import gan_explore
from common_tools import RunError
from dcgan import Discriminator, Generator
from gan_explore import between, directions, find, nearby, noise_of, read_photo
from gan_inference import to_pictures
from latents import search, text_of
from sampling import draw_noise, generate


@pytest.fixture
def generator():
    torch.manual_seed(1)
    net = Generator(8, 8, 3, 32)
    net.initialize_weights(w_std=0.2)
    return net


def values_of(net):
    return [value.tolist() for value in net.state_dict().values()], net.training


# --- latent vectors


def test_a_face_goes_by_its_seed_or_its_vector():
    second_block = [*draw_noise(70, 8, seed=3)][1]
    assert torch.equal(noise_of("seed 3, face 70", 8), second_block[5:6])  # as gan_inference.py
    noise = noise_of(" seed 3, face 1 ", 8)
    read = noise_of(text_of(noise), 8)
    assert read.shape == (1, 8, 1, 1) and torch.allclose(read, noise, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    ["", "a face", "[1, 2]", "[1, 2, 3, 4, 5, 6, 7, NaN]", '["1"]', "8", "{}", "[" * 10_000]
    + [
        f"[{10**400}, 0, 0, 0, 0, 0, 0, 0]",
        "seed 1, face 0",
        "seed 4294967296, face 1",
        "seed 1, face 100001",
        "seed 1",
    ],
)
def test_other_text_ends_in_a_sentence(text):
    with pytest.raises(RunError, match=r"there is no seed|a face is given as .* list of 8 numbers"):
        noise_of(text, 8)


def test_faces_nearby_have_the_length_and_the_angle_asked_for():
    noise = noise_of("seed 1, face 1", 100)
    around = nearby(noise, 5, distance=0.5)
    cosine = torch.cosine_similarity(around.flatten(1), noise.flatten(1))
    assert torch.allclose(cosine.acos(), torch.tensor(0.5), atol=1e-3)
    assert torch.allclose(around.flatten(1).norm(dim=1), noise.norm())
    assert len({text_of(each) for each in around}) == 5


def test_the_way_between_leads_from_one_to_the_other():
    one, other = noise_of("seed 1, face 1", 100), noise_of("seed 1, face 2", 100)
    way = between(one, other, steps=4)
    assert len(way) == 5 and torch.allclose(way[:1], one) and torch.allclose(way[-1:], other)
    assert 9 < way[2].norm() < 12  # as long as noise is, not shorter as on the straight way


def test_the_first_direction_is_the_one_that_changes_most(generator):
    with torch.no_grad():
        generator.main[0].weight[3] *= 5
        generator.main[0].weight[6] *= 3
    before = values_of(generator)
    found = directions(generator, count=3).flatten(1)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    assert found[0].abs().argmax() == 3 and found[0, 3].abs() > 0.9
    assert found[1].abs().argmax() == 6
    assert values_of(generator) == before
    assert torch.equal(found, directions(generator, count=3).flatten(1))


def test_batchnorm_decides_what_changes_most(generator):
    """A channel that it scales down to nothing does not count, large as its weights are."""
    with torch.no_grad():
        generator.main[0].weight[:, 1:] = 0.01 * torch.randn(8, 31, 4, 4)
        generator.main[0].weight[5, 0] = 100.0
        generator.main[0].weight[2, 1] = 1.0
        generator.main[1].weight[0] = 0.0
    assert directions(generator, count=1).flatten().abs().argmax() == 2


def test_a_photo_that_is_all_gray_from_afar_gives_a_face(generator):
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    *_, (_, noise) = search(generator, board.expand(1, 3, -1, -1), steps=3)
    assert noise.isfinite().all()


@pytest.mark.parametrize("with_discriminator", [False, True])
def test_a_drawn_face_is_found(generator, with_discriminator):
    torch.manual_seed(1)
    discriminator = Discriminator(3, 8, 32) if with_discriminator else None
    nets = [net for net in (generator, discriminator) if net]
    before = [values_of(net) for net in nets]
    photo = generate(generator, noise_of("seed 9, face 9", 8))
    noise = find(generator, photo, discriminator)
    found = generate(generator, noise)
    others = generate(generator, next(draw_noise(64, 8, 1)))
    error, nearest = (found - photo).abs().mean(), (others - photo).abs().mean((1, 2, 3)).min()
    assert error < nearest / 4
    assert noise.norm().item() == pytest.approx(8**0.5, abs=1e-3)
    assert [values_of(net) for net in nets] == before
    assert all(weight.grad is None for net in nets for weight in net.parameters())
    shares = [share for share, _ in search(generator, photo, steps=2)]
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_a_photo_is_aligned_where_that_is_possible(monkeypatch, tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (90, 60), "red").save(path)

    def with_aligner(aligned):
        monkeypatch.setitem(sys.modules, "align_faces", types.SimpleNamespace(aligned=aligned))
        images, cut = read_photo(path, 32, 3)
        return tuple(images[0, :, 16, 16].tolist()), cut

    def library_is_missing(_):
        raise RunError("install it.")

    blue = Image.new("RGB", (178, 218), "blue")
    assert with_aligner(lambda photo: [blue] * photo.width) == ((-1, -1, 1), "aligned")
    assert with_aligner(lambda _: []) == ((1, -1, -1), "no_face")
    assert with_aligner(library_is_missing) == ((1, -1, -1), "middle")
    monkeypatch.setitem(sys.modules, "align_faces", None)
    images, cut = read_photo(path, 32, 1)
    assert cut == "middle" and images.shape == (1, 1, 32, 32)


# --- the server


def make_bad_photos(folder):
    (folder / "text.png").write_text("<b>no image</b>")
    (folder / "large.png").write_bytes(bytes(21 << 20))
    Image.new("1", (14_000, 14_000)).save(folder / "bomb.png")
    return {
        "text.png": "text.png is not a readable image (of an unknown format); choose another.",
        "large.png": "large.png is larger than 20 MB; choose a smaller photo.",
        "bomb.png": "bomb.png is not a readable image (of more than 178,956,970 pixels: 196,000,000); "
        "choose another.",
    }


def test_bad_photos_end_in_sentences(tmp_path):
    for name, sentence in make_bad_photos(tmp_path).items():
        with pytest.raises(RunError) as error:
            read_photo(tmp_path / name)
        assert str(error.value) == sentence
    with pytest.raises(RunError, match="missing.jpg is no file; choose a photo."):
        read_photo(tmp_path / "missing.jpg")


@pytest.fixture(scope="module")
def place(finished_run, tmp_path_factory):
    """A folder with a run, and with checkpoints that may and may not be opened."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(finished_run, folder / "log_gan" / "run1")
    (folder / "log_gan" / "run1" / "checkpoint_0_epoch.pkl").write_text("damaged")
    shutil.copy(finished_run / "checkpoint_2_epoch.pkl", folder / "hidden.pkl")
    return folder


def test_only_listed_checkpoints_and_runs_are_opened(place, monkeypatch):
    monkeypatch.chdir(place)
    config = gan_explore.Config(device="cpu")
    page, _ = gan_explore.build(gradio, config, place)
    does = {each.fn.__name__: each.fn for each in page.fns.values() if each.fn}
    run = os.path.join("log_gan", "run1")
    listed = dict(gan_explore.checkpoints(os.path.join(run, "checkpoint_2_epoch.pkl")))
    assert [*listed][:3] == [f"run1/checkpoint_{epoch}_epoch.pkl" for epoch in (2, 1, 0)]
    assert "checkpoints/celeba_64.pkl" in listed
    assert does["large"](f"{run}/checkpoint_1_epoch.pkl", "seed 1, face 1").size == (256, 256)
    for path in ("hidden.pkl", str(place / "hidden.pkl"), f"{run}/../../hidden.pkl", run, ""):
        with pytest.raises(gradio.Error, match="is not in the list of checkpoints"):
            does["large"](path, "seed 1, face 1")
    with pytest.raises(gradio.Error, match="is not a checkpoint that can be opened"):
        does["large"](f"{run}/checkpoint_0_epoch.pkl", "seed 1, face 1")
    for other in ("..", str(place), ""):
        with pytest.raises(gradio.Error, match="is not in the list of runs"):
            does["at_epoch"](other, 0)
    with pytest.raises(gradio.Error, match="z_idx is 8; it must be from 0 to 7"):
        does["ends"](f"{run}/checkpoint_1_epoch.pkl", "seed 1, face 1", 8)


def test_what_is_open_stays_when_its_run_removes_the_checkpoint(
    finished_run, tmp_path, monkeypatch
):
    """As a run does that is still training, which keeps three of them."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(finished_run, "log_gan/run1")
    page, _ = gan_explore.build(gradio, gan_explore.Config(device="cpu"), tmp_path)
    does = {each.fn.__name__: each.fn for each in page.fns.values() if each.fn}
    paths = [os.path.join(run, f"checkpoint_{epoch}_epoch.pkl") for epoch in (2, 1, 0)]
    faces = [does["large"](path, "seed 1, face 1") for path in paths[:2]]
    for path in paths:
        os.remove(path)
    assert [does["large"](path, "seed 1, face 1") for path in paths[:2]] == faces
    choices = does["follow"](None, 0, None)[0].choices
    assert {*paths} & {path for _, path in choices} == {*paths[:2]}
    with pytest.raises(gradio.Error, match="is not in the list of checkpoints"):
        does["large"](paths[2], "seed 1, face 1")


def test_a_picture_that_a_browser_may_be_reading_is_not_written_again(tmp_path, monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "NO_PROXY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # all as before, afterwards
    files = gradio.processing_utils
    monkeypatch.setattr(files, "save_pil_to_cache", files.save_pil_to_cache)
    gan_explore.load_gradio(str(tmp_path))
    picture = next(to_pictures(torch.rand(1, 3, 8, 8), 8))
    served = gradio.Image(format="png").postprocess(picture).path
    with Image.open(served) as image:
        assert image.format == "PNG" and image.tobytes() == picture.tobytes()
    with open(served, "wb") as file:
        file.write(b"read")
    assert gradio.Image(format="png").postprocess(picture).path == served
    with open(served, "rb") as file:
        assert file.read() == b"read"


def test_where_there_is_no_run_the_page_waits_for_one(tmp_path, finished_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page, _ = gan_explore.build(gradio, gan_explore.Config(device="cpu"), tmp_path)
    does = {each.fn.__name__: each.fn for each in page.fns.values() if each.fn}
    *_, of_epoch, curves, line, known, none = does["follow"](None, 0, None)
    assert (of_epoch, curves, line, none.visible) == (None, None, "", True)
    assert does["at_epoch"](None, 1) == (None, None)  # its slider is there
    shutil.copytree(finished_run, "log_gan/run1")
    *_, line, _, none = does["follow"](None, 0, known)
    assert line.startswith("epoch 2 ") and not none.visible


def test_what_a_run_has_so_far(place, monkeypatch):
    monkeypatch.chdir(place)
    assert gan_explore.standing("log_gan/run1").startswith("epoch 2 · iteration 2 · loss_d ")
    assert gan_explore.standing("log_gan") == ""


# --- the page


@pytest.fixture(scope="module")
def address(place):
    """The page's address, served by a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "gan_explore.py", "--no-show", "--port", str(port)]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line == f"Open http://127.0.0.1:{port} in a browser; Ctrl-C ends it.\n"
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(30) == 143


@pytest.fixture
def browser():
    """A function that opens a headless Chromium of a language; all are closed at the end."""
    names = ("chromium", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if not (program and shutil.which("chromedriver")):
        missing = "neither Chromium nor Chrome is here, or its chromedriver is not"
        (pytest.fail if os.environ.get("BROWSER_EXPECTED") else pytest.skip)(missing)
    opened = []

    def open_browser(language):
        options = webdriver.ChromeOptions()
        options.binary_location = program
        flags = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1300,1100")
        for flag in (*flags, f"lang={language}"):
            options.add_argument(f"--{flag}")
        options.add_experimental_option("prefs", {"intl.accept_languages": language})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        opened.append(webdriver.Chrome(options, Service(shutil.which("chromedriver"))))
        return opened[-1]

    yield open_browser
    for each in opened:
        each.quit()


class Page:
    """What a user does and sees."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        self.until(lambda: self.shown("face"))

    def until(self, condition):
        return WebDriverWait(self.driver, 60, 0.05).until(lambda _: condition())

    def all(self, selector):
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return [each for each in found if each.is_displayed()]

    def shown(self, name):
        """Where the picture of this name comes from; None while there is none."""
        script = """const image = document.querySelector(`#${arguments[0]} img`);
            return image && image.complete && image.naturalWidth ? image.src : null"""
        return self.driver.execute_script(script, name)

    def changes(self, name, action):
        """Do it, and wait until the picture of this name is another one."""
        before = self.shown(name)
        action()
        self.until(lambda: self.shown(name) not in (None, before))

    def tab(self, number):
        tab = self.all("button[role=tab]")[number]
        self.driver.execute_script("arguments[0].click()", tab)  # a sentence may lie over it

    def slide(self, slider, value):
        script = """arguments[0].value = arguments[1];
            arguments[0].dispatchEvent(new Event("input", {bubbles: true}))"""
        self.driver.execute_script(script, slider, value)

    def face(self):
        """The text of the large face."""
        return self.all("#latent textarea, #latent input")[0].get_property("value")

    def upload(self, path):
        inputs = self.until(
            lambda: self.driver.find_elements(By.CSS_SELECTOR, "#photo input[type=file]")
        )
        inputs[0].send_keys(str(path))


def test_all_of_the_page_in_a_browser(address, browser, tmp_path):
    page = Page(browser("en"), address)
    labels = [tab.text for tab in page.all("button[role=tab]")]
    assert labels == ["Faces", "Directions", "Mix", "Find", "Runs"]

    # Faces
    assert page.face() == "seed 1, face 1"
    page.changes("face", lambda: page.all("#grid button")[4].click())
    assert page.face() == "seed 1, face 5"
    buttons = {button.text: button for button in page.all("button")}
    page.changes("grid", buttons["More like this"].click)
    assert page.face() == "seed 1, face 5"
    page.changes("face", lambda: page.all("#grid button")[1].click())
    assert len(json.loads(page.face())) == 8
    page.changes("face", buttons["Other faces"].click)
    assert page.face() == "seed 2, face 1"
    seed = page.all("input[type=number]")[0]
    seed.clear()
    seed.send_keys("99999999999\n")
    page.until(lambda: "seed is 99999999999; it must be from 0" in page.all("body")[0].text)
    seed.clear()
    seed.send_keys("2\n")
    kind = """const done = arguments[1];
        fetch(arguments[0]).then(found => done(found.headers.get("content-type")))"""
    assert page.driver.execute_async_script(kind, page.shown("face")) == "image/png"

    # Directions
    page.tab(1)
    page.until(lambda: len(page.all(".axis img")) == 14)
    sources = [image.get_attribute("src") for image in page.all(".axis img")]
    assert len({*sources}) == 14
    sliders = page.all(".axis input[type=range]")
    page.changes("face", lambda: page.slide(sliders[0], 2))
    page.changes("face", lambda: page.slide(sliders[6], -2))
    both = page.face()
    page.changes("face", lambda: page.slide(sliders[0], 0))
    assert len(json.loads(both)) == 8 and page.face() != both

    # Mix
    page.tab(2)
    page.until(lambda: page.shown("from") and page.shown("to"))
    page.changes("to", lambda: page.all("#to_take")[0].click())
    page.all("#way")[0].click()
    page.until(lambda: page.shown("strip") and page.shown("animation"))
    assert page.shown("animation").endswith(".gif")
    page.changes("from", lambda: page.all("#from_take")[0].click())
    page.changes("animation", page.all("#way")[0].click)
    page.changes("face", page.all("#strip img")[0].click)  # in its middle

    # Find
    page.tab(3)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, sentence in make_bad_photos(folder).items():
        face = page.face()
        page.upload(folder / name)
        page.until(lambda said=sentence: page.all("#bar")[0].text == said)
        assert page.face() == face
    good = generate(Generator(8, 8, 3, 32), noise_of("seed 5, face 5", 8))
    next(to_pictures(good, 100)).save(folder / "good.png")
    page.changes("face", lambda: page.upload(folder / "good.png"))
    page.until(lambda: page.shown("seen"))
    page.until(
        lambda: page.driver.execute_script("return document.querySelector('progress')?.value") == 1
    )
    found = page.face()
    assert len(json.loads(found)) == 8

    # Runs
    page.tab(4)
    page.until(lambda: page.shown("of_epoch") and page.shown("curves"))
    slider = page.all("#epoch input[type=range]")[0]
    assert slider.get_property("max") == "2" and slider.get_property("value") == "2"
    page.changes("of_epoch", lambda: page.slide(slider, 0))

    log = page.driver.get_log("browser")
    assert [entry["message"] for entry in log if entry["level"] == "SEVERE"] == []
    messages = [
        json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")
    ]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 50
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_the_page_follows_a_run_that_is_training(address, browser, place):
    page = Page(browser("en"), address)
    page.tab(4)
    page.until(lambda: page.shown("of_epoch"))
    run = place / "log_gan" / "run1"

    def train_on():
        shutil.copy(run / "epoch_000.png", run / "epoch_003.png")
        with open(run / "metrics.csv", "a") as file:
            file.write("3,0,1,1,0.5,0.5,0.5\n")

    page.changes("of_epoch", train_on)
    slider = page.all("#epoch input[type=range]")[0]
    assert slider.get_property("value") == "3"
    assert page.all("#line")[0].text.startswith("epoch 3 · iteration 0")


def test_a_chinese_browser_has_chinese_labels(address, browser):
    page = Page(browser("zh-CN"), address)
    labels = [tab.text for tab in page.all("button[role=tab]")]
    assert labels == [
        gan_explore.TEXTS[key][1] for key in ("faces", "directions", "mix", "find", "runs")
    ]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{place}/hidden.pkl", "{place}/log_gan/run1/real.png"]
)
def test_no_file_is_served_that_the_page_does_not_show(address, place, path):
    import urllib.error
    import urllib.request

    with pytest.raises(urllib.error.HTTPError, match="40[34]"):
        urllib.request.urlopen(f"{address}/gradio_api/file={path.format(place=place)}")
