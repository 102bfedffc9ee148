"""What is secret is hidden wherever it stands; what only looks like it stays."""

import logging
import sys

import pytest

from recray.redaction import hidden, hidden_within
from recray.track.console import setup_logging

KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfi"


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("DATABASE", "postgres://shop:correct-horse@db:5432/shop")
    monkeypatch.setenv(
        "RECRAY_NOTIFY", "discord://4711webhookid/aToken-of_letters slack://TokenA123/TokenB123"
    )
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled")
    monkeypatch.setenv("PIN_KEY", "short")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"login with {KEY} failed", "login with *** failed"),
        ("?signature_of=wJalrXUtnFEMI%2FK7MDENG%2BbPxRfi", "?signature_of=***"),
        ("password authentication failed: correct-horse", "password authentication failed: ***"),
        ("POST discord://4711webhookid/aToken-of_letters: 404", "POST ***: 404"),
        ("https://discord.com/api/webhooks/4711webhookid/aToken-of_letters", "https://discord.com/api/webhooks/***/***"),
        ("s3://AKIAX:a/b+c@bucket/events.csv?region=eu", "s3://***@bucket/events.csv?region=eu"),
        ("s3://AK/I:a/b@bucket", "s3://***@bucket"),
        ("redis://:pass@cache:6379/0 is gone", "redis://***@cache:6379/0 is gone"),
        ("https://ghp_12345@github.com/shop", "https://***@github.com/shop"),
        ("https://hub/data.csv?token=abc&user=u", "https://hub/data.csv?token=***&user=u"),
        ("Authorization: Bearer abcdefgh123", "Authorization: Bearer ***"),
    ],
)  # fmt: skip
def test_secrets_are_hidden(text: str, found: str) -> None:
    assert hidden(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8000/users/a@b",
        "s3://bucket/day@2/events.csv?session=sid&user=u",
        "two_tower: disabled, 3 short lists, ndcg@10 0.1",
        "basic rules",
        "data.csv?time=when&key=session",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hidden(text) == text


def test_values_are_searched_at_any_depth_and_keys_stay() -> None:
    settings = {"data": {"dataset": f"s3://a:{KEY}@b/c", "ks": [1, 10]}, "names": ("x", KEY), "best": 0.5}
    assert hidden_within(settings) == {
        "data": {"dataset": "s3://***@b/c", "ks": [1, 10]}, "names": ["x", "***"], "best": 0.5
    }  # fmt: skip


def test_the_log_hides_them_in_tracebacks_too(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("recray").handlers = []
    setup_logging(stream=sys.stderr)
    try:
        raise ConnectionError(f"refused for {KEY}")
    except ConnectionError:
        logging.getLogger("recray.test").exception("with %s", KEY)
    said = capsys.readouterr().err
    assert "with ***" in said
    assert "ConnectionError: refused for ***" in said
