"""What looks like a secret is masked and found; what only looks random is left alone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.assurance.audit.secrets import MASK, mask, masked, names_a_secret, scan

# Put together here, so that no scanner of this repository takes them for real ones.
KEYS = {
    "AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "GitLab token": "glpat-" + "a1B2c3" * 4,
    "Slack token": "xoxb-" + "123456789012-abcdefABCDEF",
    "Google API key": "AIza" + "a1B2c3D" * 5,
    "Hugging Face token": "hf_" + "a1B2c3" * 6,
    "OpenAI or Anthropic key": "sk-" + "ant-a1B2c3" * 4,
    "PyPI token": "pypi-" + "AgEIcHlwaS5vcmc" * 4,
    "Prefect API key": "pnu_" + "a1B2c3" * 6,
    "JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NSJ9." + "c2lnbmF0dXJlMTIz",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\n-----END RSA " + "PRIVATE KEY-----",
    "authorization header": "Basic YWRtaW46aHVudGVyMg==",
}


@pytest.mark.parametrize(("kind", "key"), KEYS.items())
def test_known_formats_are_masked_and_found(kind: str, key: str) -> None:
    text = (
        f"it said Authorization: {key} and went on" if kind == "authorization header" else f"it said {key} and went on"
    )
    assert key not in mask(text)
    assert mask(text).endswith(f"{MASK} and went on")
    (leak,) = scan({"report.md": text})
    assert (leak.where, leak.kind) == ("report.md", kind)
    assert key not in leak.excerpt
    assert scan({"report.md": mask(text)}) == []


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://gauntlet:hunter2@db.example.org/mlflow", "postgresql://gauntlet:***@db.example.org/mlflow"),
        ("http://:hunter2@127.0.0.1:5000", "http://:***@127.0.0.1:5000"),
        ("see https://a:hunter2@x/ and https://b:hunter2@y/", "see https://a:***@x/ and https://b:***@y/"),
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("https://user@example.org/x:y", "https://user@example.org/x:y"),
        ("models:/gauntlet-digits-baseline@candidate", "models:/gauntlet-digits-baseline@candidate"),
    ],
)
def test_the_password_of_a_url_is_masked_and_its_user_kept(url: str, kept: str) -> None:
    assert mask(url) == kept
    assert mask(kept) == kept
    assert bool(scan({"uri": url})) == (url != kept)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "db.password",
            "GAUNTLET_ADMIN_PASSWORD",
            "adminPassword",
            "api_key",
            "apiKey",
            "token",
            "hf_token",
        ),
        *("client-secret", "pwd", "PREFECT_API_AUTH_STRING", "aws_secret_access_key", "credentials"),
    ],
)
def test_names_that_say_secret(name: str) -> None:
    assert names_a_secret(name)
    assert masked({"a": {name: "hunter2"}}) == {"a": {name: MASK}}
    assert [leak.where for leak in scan({f"params.{name}": "hunter2"})] == [f"params.{name}"]


@pytest.mark.parametrize(
    "name", ["gauntlet.key", "max_tokens", "tokenizer", "keys", "secretary", "monkey", "dataset", "author"]
)
def test_names_that_do_not(name: str) -> None:
    assert masked({name: "value"}) == {name: "value"}


def test_what_is_no_secret_stays_as_it_is() -> None:
    config = {
        "eps": (0.1, 0.3),
        "digest": hashlib.sha256(b"x").hexdigest(),
        "commit": "a" * 40,
        "n": 5,
        "data_dir": None,
    }
    config |= {"password": "", "token": None, "use_token": True}
    assert masked(config) == config
    assert scan({name: str(value) for name, value in config.items()}) == []


def test_lists_are_looked_into() -> None:
    assert masked({"x": [{"password": "hunter2"}, "ftp://a:hunter2@b"]}) == {"x": [{"password": MASK}, "ftp://a:***@b"]}


@given(st.text())
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(st.text(alphabet="abcXYZ019_.!-", min_size=1), st.sampled_from(["http", "postgresql+asyncpg", "s3"]))
def test_no_password_survives_in_a_url(password: str, scheme: str) -> None:
    assert mask(f"{scheme}://user:{password}@host/") == f"{scheme}://user:***@host/"


HIDDEN = [
    ("postgresql://u:p@ss/w#rd@db:5432/x", "p@ss"),
    ("https://host/a?token=abcdef&x=1", "abcdef"),
    ("https://host/a?x=1&sig=AbC%2Fd", "AbC"),
    ("could not connect: password=hunter2; user=x", "hunter2"),
    ("DefaultEndpointsProtocol=https;AccountKey=" + "A" * 86 + "==;EndpointSuffix=x", "AAAA"),
    ("https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXX", "XXXX"),
    ("sk_live_" + "a" * 24, "aaaa"),
    ("npm_" + "a" * 36, "aaaa"),
    ("dapi" + "0" * 32, "0000"),
]


@pytest.mark.parametrize(("text", "secret"), HIDDEN)
def test_what_issuers_and_drivers_write_is_masked(text: str, secret: str) -> None:
    assert secret not in mask(text)
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize("text", ["max_tokens=5", "tokens: 12", "https://host/path:80/x@y", "secret scanning: none"])
def test_plain_words_stay(text: str) -> None:
    assert mask(text) == text
