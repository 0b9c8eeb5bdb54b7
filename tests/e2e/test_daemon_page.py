"""The page of the daemon in a real browser."""

from __future__ import annotations

import base64
import os
import random
import wave
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.daemons import start_daemon
from tests.support.processes import Processes
from tests.support.requirements import MAY_INSTALL, require_program
from tests.support.sharing import MIB, random_file, share

pytestmark = [pytest.mark.e2e, MAY_INSTALL]

TAB, ENTER = "\ue004", "\ue007"
PICTURES = os.environ.get("SWARM_PICTURES")
"""A folder in which pictures of the page are written: docs/ for those of the documentation."""


@pytest.fixture(scope="module", autouse=True)
def _browser() -> None:
    for program in ("chromedriver", "chromium"):
        require_program(program, "chromium", "chromium-driver", "fonts-dejavu-core")


def state(name: str) -> str:
    return (
        f"[...document.querySelectorAll('.transfer')].find((each) => each.querySelector('.name').textContent"
        f" === '{name}')?.dataset.state"
    )


def test_a_link_is_added_watched_paused_and_removed(processes: Processes, tmp_path: Path) -> None:
    # Half a minute, if it were not let go on without a limit at the end.
    movie = random_file(tmp_path / "movie.bin", 60 * MIB)
    other = random_file(tmp_path / "other.bin", MIB, seed=9)
    seeder = share(processes, movie)
    second = share(processes, other)
    daemon = start_daemon(processes)
    assert daemon.ask("PATCH", "/v1/limits", {"download_limit": 2_000_000}).status == 200
    home = f"http://127.0.0.1:{daemon.port}/"
    with Browser(tmp_path / "profile") as browser:
        # Without the token, and with a wrong one, there is nothing to see.
        browser.open(home)
        browser.until("!document.getElementById('login').hidden")
        browser.press("wrong" + ENTER)
        browser.until("document.getElementById('trouble').textContent === 'The token is wrong.'")
        assert not browser.run("return document.getElementById('main').checkVisibility()")
        assert all("401" in each for each in browser.complaints())

        browser.open(f"{home}#token={daemon.token}")
        browser.run("location.reload()")
        browser.until("document.getElementById('main').checkVisibility()")
        assert browser.run("return location.href") == home
        browser.run("document.getElementById('link').focus()")
        browser.press(f" {seeder.link} " + ENTER)
        browser.until(f"{state('movie.bin')} === 'fetching'")
        # By keyboard alone: the name opens what there is to know.
        browser.run("document.querySelector('.transfer .name').focus()")
        browser.press(ENTER)
        browser.until("document.querySelector('.peers tbody tr')?.textContent.includes('named')")
        browser.until("document.querySelector('.peers tbody tr').textContent.includes('MB/s')")
        # The command for others, and the code for a phone, which is drawn by then.
        (about,) = daemon.transfers()
        command = browser.run("return document.querySelector('.command').textContent")
        assert command == f"swarm fetch '{about['link']}'"
        assert browser.until("document.querySelector('.qr').naturalWidth") > 0
        pictures(browser)
        browser.run("document.querySelector('.pause').click()")
        browser.until(f"{state('movie.bin')} === 'paused'")
        assert daemon.ask("PATCH", "/v1/limits", {"download_limit": None}).status == 200
        browser.run("document.querySelector('.pause').click()")
        browser.until(f"{state('movie.bin')} === 'seeding'")
        assert (processes.work("daemon") / "movie.bin").read_bytes() == movie.read_bytes()

        rules = {"schedule": ["daily up 3MB/s"], "ratio": 2}
        assert daemon.ask("PATCH", "/v1/limits", rules).status == 200
        shown = "By the time of day: daily up 3MB/s. Now: send at most 3.0 MB/s, receive without limit. "
        browser.until(
            f"document.getElementById('rules').textContent === {shown + 'Seeding ends at ratio 2.'!r}"
        )
        drop(browser, second.written)
        browser.until(f"{state('other.bin')} === 'seeding'")
        browser.run("[...document.querySelectorAll('.remove')].forEach((each) => each.blur())")
        browser.run("setTimeout(() => document.querySelector('.remove').click(), 0)")
        assert "Its files stay" in accepted(browser)
        browser.until("document.querySelectorAll('.transfer').length === 1")
        browser.run("document.getElementById('link').focus()")
        browser.press("nonsense" + ENTER)
        assert "give a .swarm file" in browser.until("document.getElementById('trouble').textContent")
        assert [each["name"] for each in daemon.transfers()] == ["movie.bin"]
        complaints = [each for each in browser.complaints() if "status of 400" not in each]
        assert complaints == []
        asked = [each for each in browser.requests() if each.startswith(("http", "ws"))]
        strangers = [each for each in asked if not each.startswith(home)]
        assert asked
        assert strangers == []


def test_a_film_is_watched_and_searched_while_it_is_fetched(processes: Processes, tmp_path: Path) -> None:
    """A sound, in fact: browsers play it without a codec. They ask for it as they do for a film."""
    film = recording(tmp_path / "film.wav", 300)
    seeder = share(processes, film, "--upload-limit", "1MB/s")
    daemon = start_daemon(processes)
    with Browser(tmp_path / "profile") as browser:
        assert daemon.ask("POST", "/v1/transfers", {"link": seeder.link}).status == 201
        browser.open(f"http://127.0.0.1:{daemon.port}/#token={daemon.token}")
        browser.until(f"{state('film.wav')} === 'fetching'")
        browser.run("document.querySelector('.transfer .name').click()")
        browser.open(browser.until("document.querySelector('.files a')?.href"))
        browser.until("document.querySelector('video')?.readyState >= 2")
        browser.run(
            "const film = document.querySelector('video');"
            "film.muted = true;"
            "film.addEventListener('seeked', () => { window.found = film.readyState; });"
            "film.currentTime = 250;"
        )
        browser.until("window.found >= 2")
        assert browser.run("return document.querySelector('video').duration") == 300
        assert browser.complaints() == []
    (about,) = daemon.transfers()
    assert about["done"] < film.stat().st_size * 3 // 4


def recording(path: Path, seconds: int) -> Path:
    """A sound file of noise: 44,100 samples a second of two channels with 16 bits."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(44_100)
        noise = random.Random(2)
        for _ in range(seconds):
            sound.writeframes(noise.randbytes(4 * 44_100))
    return path


def accepted(browser: Browser) -> str:
    import time
    import urllib.error

    for _ in range(100):
        try:
            return browser.accept()
        except urllib.error.HTTPError:
            time.sleep(0.05)
    raise AssertionError("the page does not ask")


def drop(browser: Browser, path: Path) -> None:
    """Drop a file on the page, as the browser tells the page of it."""
    browser.run(
        "const data = new DataTransfer();"
        "const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));"
        "data.items.add(new File([bytes], arguments[1]));"
        "document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));",
        base64.b64encode(path.read_bytes()).decode(),
        path.name,
    )


def pictures(browser: Browser) -> None:
    """What a phone and a dark screen show: nothing is wider than the screen; pictures if they are wanted."""
    for name, width, scheme in (("wide", 1100, "light"), ("narrow", 390, "dark")):
        browser.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=760,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        browser.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        assert browser.until("document.documentElement.scrollWidth") <= width
        dark = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        assert dark == (scheme == "dark")
        if PICTURES:
            # Not the folders of this machine.
            browser.run(
                "document.getElementById('output').placeholder = '/home/me/Downloads';"
                "[...document.querySelectorAll('dt')].filter((each) => each.textContent === 'Where')"
                ".forEach((each) => { each.nextSibling.textContent = '/home/me/Downloads'; });"
            )
            browser.picture(Path(PICTURES) / f"daemon-{name}.png")
    browser.command("Emulation.clearDeviceMetricsOverride")


def test_the_page_sets_text_and_never_markup() -> None:
    page = (Path(__file__).parents[2] / "swarm" / "daemon" / "page" / "page.js").read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http://",
        "https://",
    ):
        assert word not in page
