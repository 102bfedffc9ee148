"""The console in a real browser: changes of what is live by its buttons, and every page as a picture.

Pictures go to the test's folder; where ``RECRAY_SHOTS`` names one, there, and of all screens.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import httpx
import pytest

from recray.monitor.drift_files import drift_dir, write_latest
from recray.store.journal import JOURNAL_FILE
from recray.track import history
from recray.track.record import Outcome, RunFolder
from tests.console.conftest import Shop
from tests.console.moved import look
from tests.serve.test_follower import eventually
from tests.serve.uvicorn_server import ask
from tests.serve.world import APPLICATION

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
PAGES = ("", "beside", "versions", "live", "experiments", "drift", "business", "runs", "data")
Ground: TypeAlias = Literal["light", "dark"]
SCREENS: tuple[tuple[int, Ground], ...] = ((1280, "light"), (390, "dark"))
ALL_SCREENS: tuple[tuple[int, Ground], ...] = (*SCREENS, (1280, "dark"), (390, "light"))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        made = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def console(shop: Shop) -> Iterator[str]:
    """The command itself, on a free port; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = ["-m", "recray", "console", "--server", shop.url, "--port", str(port)]
    environment = {**os.environ, "RECRAY_ADMIN_TOKEN": ""}
    process = subprocess.Popen([sys.executable, *words], env=environment, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                httpx.get(f"{url}/_stcore/health").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "the console ended"
                time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def settle(page: "Page") -> None:
    """Wait for the page's script to end: until then, what its last run drew stands beside what is new."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.locator('[data-stale="true"]').first.wait_for(state="detached")


def sign(page: "Page", shop: Shop) -> None:
    page.get_by_text("Read only").wait_for()
    settle(page)
    page.get_by_label("Token for changes").fill(shop.token)
    page.get_by_label("Token for changes").press("Enter")
    page.get_by_text("Read only").wait_for(state="detached")
    settle(page)


def errors_of(page: "Page") -> list[str]:
    """What its scripts fail with from now on."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def confirm(page: "Page", button: str, why: str) -> None:
    settle(page)
    page.get_by_role("button", name=button, exact=True).and_(page.locator(":enabled")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why?").fill(why)
    dialog.get_by_label("Why?").press("Enter")
    dialog.get_by_role("button", name="Do it").click()
    dialog.wait_for(state="detached")


def test_promote_canary_and_rollback_by_buttons(shop: Shop, console: str, browser: "Browser") -> None:
    page = browser.new_page()
    page.set_default_timeout(30_000)
    page.goto(f"{console}/versions")
    assert page.get_by_role("button", name="Roll back").is_disabled()
    sign(page, shop)
    confirm(page, "Promote", "it is better")  # the newest stands first
    eventually(lambda: shop.store.names(APPLICATION)["production"] == 2)
    page.get_by_text("which is version 2").wait_for()
    confirm(page, "Start canary", "is the old one as good?")
    eventually(lambda: bool(shop.service._arms.serving.running))
    page.goto(f"{console}/experiments")
    page.get_by_role("heading", name="canary-1: canary").wait_for()
    sign(page, shop)
    confirm(page, "Stop", "seen enough")
    page.get_by_text("No experiment runs").wait_for()
    page.goto(f"{console}/versions")
    sign(page, shop)
    confirm(page, "Roll back", "sales fell")
    eventually(lambda: shop.store.names(APPLICATION)["production"] == 1)
    page.close()
    journal = (shop.store.root / APPLICATION / JOURNAL_FILE).read_text()
    for why in ("it is better", "is the old one as good?", "seen enough", "sales fell"):
        assert why in journal
    assert shop.token not in journal


def test_every_page_as_a_picture(shop: Shop, console: str, browser: "Browser", tmp_path: Path) -> None:
    folder = Path(os.environ.get("RECRAY_SHOTS") or tmp_path)
    run = RunFolder(Path(os.environ["RECRAY_HOME"]) / "runs" / "two_tower-shop")
    run.note_settings({"loop.metric": "ndcg@10", "model.dim": 64})
    for epoch in range(1, 12):
        loss = 5 / (1 + epoch)
        report = {
            "epoch": epoch,
            "ndcg@10": 0.2 - 0.2 / epoch**0.5,
            "train_loss": loss,
            "wall_s": 9.0 * epoch,
        }
        history.append(run.folder, report)
    run.end(Outcome(state="finished", reference="shop-two_tower 1", metrics={"ndcg@10": 0.14}))
    looks = drift_dir(shop.store.root, APPLICATION)
    looks.mkdir(parents=True)
    write_latest(looks, look(moved=True))
    port = int(shop.url.rpartition(":")[2])
    screens = ALL_SCREENS if os.environ.get("RECRAY_SHOTS") else SCREENS
    for width, ground in screens:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=ground)
        wrong = errors_of(page)
        for name in PAGES:
            page.goto(f"{console}/{name}")
            page.locator("h1").wait_for(timeout=30_000)
            if not name:
                page.get_by_label("User", exact=True).fill("103")
                page.get_by_role("button", name="Recommend", exact=True).click()
                page.locator(".items [role=listitem]").first.wait_for(timeout=30_000)
            for n in range(30):
                ask(port, "/recommend", {"user_id": str(100 + n)})
            page.wait_for_timeout(4_500 if name == "live" else 1_200)
            page.screenshot(path=folder / f"{name or 'recommend'}-{width}-{ground}.png", full_page=True)
            assert page.locator(".stException").count() == 0, name
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{name} is {wide} pixels wider than a screen of {width}"
        page.close()
        assert not wrong
    assert len(list(folder.glob("*.png"))) >= len(PAGES) * len(screens)
