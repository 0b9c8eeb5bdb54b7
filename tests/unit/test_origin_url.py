"""The URL of a web server, and its secrets."""

from __future__ import annotations

import pytest

from swarm.errors import UsageError
from swarm.origin_url import OriginUrl

FULL = "https://us%40er:pa%3Ass@Host.Example:8443/a%20b/ü/?token=s3cr3t#part"


def test_a_url_hides_its_secrets_and_keeps_them() -> None:
    url = OriginUrl(FULL)
    assert str(url) == "https://host.example:8443/a%20b/%C3%BC/"
    assert repr(url) == f"OriginUrl('{url}')"
    assert url.has_secrets
    assert url.revealed() == "https://us%40er:pa%3Ass@host.example:8443/a%20b/%C3%BC/?token=s3cr3t"
    assert OriginUrl(url.revealed()) == url
    assert url.target == "/a%20b/%C3%BC/?token=s3cr3t"
    assert url.authorization == "Basic dXNAZXI6cGE6c3M="
    assert not OriginUrl("http://host/").has_secrets


def test_names_are_appended_to_a_folder_only() -> None:
    folder = OriginUrl("http://host/files/?key")
    assert folder.below(("a b", "50%", "x#y?", "ü")).target == "/files/a%20b/50%25/x%23y%3F/%C3%BC?key"
    folder.require_folder()
    file = OriginUrl("http://host/disk.iso")
    with pytest.raises(UsageError, match=r"ends in /: http://host/disk\.iso/"):
        file.require_folder()
    assert file.below(("name", "within")) == file
    assert file.beside(".swarm").path == "/disk.iso.swarm"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://host/s3cr3t",
        "http://",
        "http:///s3cr3t",
        "http://h:x/s3cr3t",
        "//host/s3cr3t",
        "http://a b/",
        f"http://{'x' * 64}.example/s3cr3t",
        "http://a..example/s3cr3t",
        "http://a..b/s3cr3t",
        f"http://{'x.' * 127}example/s3cr3t",
    ],
)
def test_what_is_no_url_of_a_web_server_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as error:
        OriginUrl(text)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize(
    "host", ["a", "a.b.", f"{'x' * 63}.example", "a_b.-c", "127.0.0.1", f"{'x.' * 120}example"]
)
def test_names_that_a_resolver_takes_are_hosts_and_so_are_addresses(host: str) -> None:
    assert OriginUrl(f"http://{host}/").host == host
    assert OriginUrl("http://[::1]/").host == "::1"
    assert OriginUrl("http://[2001:db8::127.0.0.1]:8080/").host == "2001:db8::127.0.0.1"


def test_redirects_lead_to_the_same_or_a_safer_scheme_and_take_no_password_elsewhere() -> None:
    url = OriginUrl("http://user:pw@host/a/b?x")
    assert url.moved("/c").revealed() == "http://user:pw@host/c"
    assert url.moved("d").revealed() == "http://user:pw@host/a/d"
    assert url.moved("https://host/").authorization is None
    assert url.moved("http://other/").authorization is None
    for bad in ("ftp://host/", "file:///etc/passwd", "x" * 5000, "\n", f"http://{'x' * 64}.example/"):
        with pytest.raises(UsageError):
            url.moved(bad)
    with pytest.raises(UsageError):
        OriginUrl("https://host/").moved("http://host/")
