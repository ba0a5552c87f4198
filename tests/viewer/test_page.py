"""The page in a real browser: Debian's Chromium, which `make browser` installs."""

import copy
import io
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from ase.build import molecule
from matplotlib.image import imread

import deepdft
from deepdft.density import DensityGrid
from deepdft.inference.predictor import Predictor
from deepdft.models.ensemble import Ensemble

pytest.importorskip("fastapi", reason="needs the extra `view`")
pytest.importorskip("rdkit", reason="needs the extra `view`")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
uvicorn = pytest.importorskip("uvicorn", reason="needs the extra `view`")
expect = sync_api.expect

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: make browser")
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox", "--disable-background-networking"]
SECONDS = 60_000  # ms; pages of a busy machine


@contextmanager
def served(predictor, limits) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    from deepdft.viewer.app import create_app

    app = create_app(predictor, model_name="model under test", hosts=["127.0.0.1"], limits=limits)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="module")
def address(predictor, limits) -> Iterator[str]:
    with served(predictor, limits) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """An open page; whatever it writes to the console, loads from elsewhere, or throws fails the test."""
    page = browser.new_page(viewport={"width": 900, "height": 560})
    page.set_default_timeout(SECONDS)
    problems = []

    def written(message):
        harmless = (
            "GPU stall" in message.text or "Failed to load resource" in message.text
        )  # refusals are told in place
        if message.type in ("error", "warning") and not harmless:
            problems.append(message.text)

    def loaded(request):
        if not request.url.startswith((address, "blob:", "data:")):
            problems.append(request.url)

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", written)
    page.on("request", loaded)
    page.goto(f"{address}/#spacing=0.3")
    page.wait_for_selector("body[data-ready=true]")
    yield page
    assert problems == []
    page.close()


def show(page, text):
    page.fill("#structure", text)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(re.compile(f"^{text}: ready"), timeout=SECONDS)


def draw(page, mode):
    page.locator("#modes label", has_text=mode).click()


def triangles(page):
    return int(page.get_attribute("#view", "data-triangles"))


def picture(page):
    """The pixels (height, width, 3) of the three-dimensional view."""
    return imread(io.BytesIO(page.locator("#view").screenshot()))[..., :3]


def upload(page, name, content):
    page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def test_a_name_becomes_a_surface_that_can_be_seen(page):
    show(page, "water")
    assert triangles(page) > 100
    image = picture(page)
    background = image[2, 2]
    drawn = np.abs(image - background).max(axis=-1) > 0.05
    assert 0.02 < drawn.mean() < 0.9
    red = (image[..., 0] > image[..., 1] + 0.1) & (image[..., 0] > image[..., 2] + 0.1)  # the oxygen
    teal = (image[..., 1] > image[..., 0] + 0.1) & (image[..., 2] > image[..., 0] + 0.1)  # the surface
    assert red.sum() > 50
    assert teal.sum() > 1000
    numbers = page.inner_text("#tiles")
    assert "of 8" in numbers
    assert re.search(r"1\.\d\d D\s+dipole moment", numbers)


def test_atoms_are_coloured_by_how_far_to_trust_them(page):
    show(page, "water")
    page.locator("#level").fill("900")  # a small surface, so that the atoms are seen
    page.select_option("#paint", "trust")
    expect(page.locator("#legend")).to_contain_text("atoms as in the training set", timeout=SECONDS)
    image = picture(page)[60:250]  # between the modes and the legend
    red = (image[..., 0] > image[..., 1] + 0.1) & (image[..., 0] > image[..., 2] + 0.1)  # the oxygen by its element
    green = (image[..., 1] > image[..., 0] + 0.1) & (image[..., 1] > image[..., 2] + 0.1)  # known surroundings
    assert green.sum() > 50
    assert red.sum() < 20
    page.select_option("#paint", "element")
    expect(page.locator("#legend")).not_to_contain_text("atoms as in the training set", timeout=SECONDS)


def test_an_ensemble_says_by_how_much_its_members_differ(browser, predictor, limits):
    other = copy.deepcopy(predictor.model)
    with torch.no_grad():
        for parameter in other.encoder.parameters():
            parameter.mul_(1.02)
    info = {key: value for key, value in predictor.info.items() if key != "trust"}  # the record is that of one model
    ensemble = Predictor(Ensemble([predictor.model, other], spread_scale=1.5), info=info)
    with served(ensemble, limits) as address:
        page = browser.new_page(viewport={"width": 900, "height": 560})
        page.set_default_timeout(SECONDS)
        page.goto(f"{address}/#spacing=0.3")
        page.wait_for_selector("body[data-ready=true]")
        show(page, "water")
        found = re.search(r"members of the ensemble differ by (\S+) %", page.inner_text("#trust"))
        assert found
        assert 0 < float(found[1]) < 100
        assert "are expected in the wrong place" in page.inner_text("#trust")
        page.close()


def test_the_slider_moves_the_surface_and_a_slice_is_drawn_and_turns(page):
    show(page, "water")
    before, pixels = triangles(page), picture(page)
    page.locator("#level").fill("150")
    expect(page.locator("#view")).not_to_have_attribute("data-triangles", str(before), timeout=SECONDS)
    assert triangles(page) > before  # a smaller value encloses more
    assert not np.array_equal(pixels, picture(page))
    assert "e/Å³" in page.inner_text("#level-text")
    page.check("#slice")
    canvas = page.locator("#cut-canvas")
    expect(page.locator("#offset-text")).to_have_text("0.00 Å", timeout=SECONDS)
    expect(canvas).to_have_attribute("aria-label", re.compile("tilted by 90°"), timeout=SECONDS)  # through the atoms
    before = canvas.screenshot()
    page.locator("#tilt").fill("60")
    expect(canvas).to_have_attribute("aria-label", re.compile("tilted by 60°"), timeout=SECONDS)
    assert canvas.screenshot() != before


def test_an_uploaded_density_is_compared_and_downloaded_again(page, predictor, tmp_path):
    density = predictor.predict(molecule("NH3", vacuum=3.0), shape=(20, 20, 20))
    reference = DensityGrid(density.values * np.float32(1.05), density.atoms, density.origin)
    deepdft.write_density(tmp_path / "x.cube", reference)
    upload(page, "ammonia.cube", (tmp_path / "x.cube").read_bytes())
    expect(page.locator("#status")).to_contain_text("ammonia.cube: ready", timeout=SECONDS)
    assert re.search(r"4\.76 %\s+ε_mae", page.inner_text("#tiles"))
    assert page.locator("#modes input:checked").input_value() == "difference"
    page.locator("summary", has_text="Download").click()
    with page.expect_download() as download:
        page.click("#get-cube")
    download.value.save_as(tmp_path / "y.cube")
    difference = deepdft.read_density(tmp_path / "y.cube")
    np.testing.assert_allclose(difference.values, density.values - reference.values, atol=2e-5)


def test_two_structures_are_compared_side_by_side_and_by_their_difference(page):
    show(page, "water")
    page.locator("summary", has_text="Compare").click()
    page.fill("#compare-with", "ammonia")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("water and ammonia: ready", timeout=SECONDS)
    assert page.locator("#modes input:checked").input_value() == "difference"
    assert triangles(page) > 100
    expect(page.locator("#legend")).to_contain_text("more in ammonia", timeout=SECONDS)
    draw(page, "Side by side")
    second = page.locator("#view-second canvas")
    second.wait_for(state="visible")
    expect(page.locator("#name-second")).to_have_text("ammonia", timeout=SECONDS)
    before = triangles(page)
    page.locator("#level").fill("250")  # one slider for both
    expect(page.locator("#view")).not_to_have_attribute("data-triangles", str(before), timeout=SECONDS)
    image = imread(io.BytesIO(page.locator("#view-second").screenshot()))[..., :3]
    assert ((image[..., 2] > image[..., 0] + 0.2) | (image[..., 1] > image[..., 0] + 0.1)).sum() > 500


REFUSED = [
    ("x.cube", b"nonsense", "x.cube: it cannot be read"),
    ("x.pkl", b"cos", "this kind of file is not read"),
    ("x.xyz", b"0" * (2**20 + 1), "at most 1 MB"),
]


def test_what_cannot_be_shown_is_told_in_place(page):
    for name, content, reported in REFUSED:
        upload(page, name, content)
        expect(page.locator("#error")).to_contain_text(reported, timeout=SECONDS)
    page.fill("#structure", "[Au]")
    page.click("#show")
    expect(page.locator("#error")).to_contain_text("not trained on Au", timeout=SECONDS)
    page.fill("#structure", " ")
    page.click("#show")
    expect(page.locator("#error")).to_contain_text("Type a name", timeout=SECONDS)
    show(page, "water")  # and the page still works
    assert page.locator("#error").is_hidden()


def test_a_prediction_is_cancelled_in_place(page):
    show(page, "caffeine")
    draw(page, "Interactions")
    page.click("#cancel")
    expect(page.locator("#status")).to_have_text("Cancelled.", timeout=SECONDS)
    show(page, "water")


def test_the_address_holds_what_is_shown(page, browser):
    show(page, "water")
    page.check("#slice")
    draw(page, "Bonding")
    page.wait_for_url("**deformation**")
    expect(page.locator("#legend")).to_contain_text("electrons gained", timeout=SECONDS)
    other = browser.new_page()
    other.goto(page.url)
    other.wait_for_selector("body[data-ready=true]", timeout=SECONDS)
    assert other.locator("#modes input:checked").input_value() == "deformation"
    assert other.locator("#slice").is_checked()
    assert "water" in other.inner_text("#title")
    other.close()


def test_the_keyboard_is_enough(page):
    page.keyboard.press("Tab")  # the link to the picture
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "structure"
    page.keyboard.type("water")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("water: ready", timeout=SECONDS)
    page.focus("#level")
    before = page.inner_text("#level-text")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#level-text")).not_to_have_text(before, timeout=SECONDS)
    page.focus("#view")
    pixels = picture(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert not np.array_equal(pixels, picture(page))
    page.wait_for_url("**view=**")  # and the address keeps it


def test_a_phone_shows_all_without_scrolling_sideways(browser, address):
    phone = browser.new_page(viewport={"width": 360, "height": 740}, device_scale_factor=2)
    phone.goto(f"{address}/#structure=water&spacing=0.3")
    phone.wait_for_selector("body[data-ready=true]", timeout=SECONDS)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    assert phone.locator("#view canvas").bounding_box()["width"] >= 300
    phone.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_for_people_who_do_not_see_well(page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    show(page, "water")
    page.check("#slice")
    for summary in page.locator("summary").all():
        summary.click()
    found = axe.Axe().run(page).response["violations"]
    serious = [
        f"{one['id']}: {one['nodes'][0]['html'][:100]}" for one in found if one["impact"] in ("serious", "critical")
    ]
    assert [f"{one['id']}: {one['nodes'][0]['html'][:100]}" for one in serious] == []
