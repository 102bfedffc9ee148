"""What is wrong with the address of a home is said in one sentence, without secrets."""

import pytest

from recray import storage
from recray.cli import main
from recray.schema import DataError
from tests.storage.s3_server import BUCKET, S3Server


def refusal() -> str:
    with pytest.raises(DataError) as raised:
        storage.require_writable()
    said = str(raised.value)
    assert "\n" not in said
    assert "not-to-be-seen" not in said
    return said


def test_a_bucket_that_is_not_there(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", "s3://another/home")
    assert refusal() == (
        "RECRAY_HOME s3://another/home: there is no such bucket: create it, or name another one"
    )


def test_a_server_that_is_away(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", "s3://another/home")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert refusal() == (
        "RECRAY_HOME s3://another/home cannot be reached (Connection refused): check the address, the "
        "network and AWS_ENDPOINT_URL"
    )


def test_no_credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.169.254")
    monkeypatch.setenv("RECRAY_HOME", f"s3://{BUCKET}/without")
    assert "no credentials were found: set AWS_ACCESS_KEY_ID" in refusal()


def test_the_doctor_says_what_the_home_is(s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    assert f"s3://{BUCKET}/" in capsys.readouterr().out
    s3.go_away()
    try:
        main(["doctor", "--json"])
    finally:
        s3.come_back()
    assert "cannot be reached (Connection refused)" in capsys.readouterr().out
