"""What people write for a cluster's address, and what comes of it."""

import pytest

from ray_cxr.errors import InputError
from ray_cxr.submit.address import VARIABLE, cluster_url, is_open_wire


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8265", "http://127.0.0.1:8265"),
        ("head.example", "http://head.example:8265"),
        ("head.example:9000/", "http://head.example:9000"),
        ("https://ray.example/cxr/", "https://ray.example:443/cxr"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_what_people_write_becomes_one_url(given: str, url: str) -> None:
    assert cluster_url(given, {}) == url


def test_the_option_comes_before_the_environment() -> None:
    assert cluster_url(None, {VARIABLE: "http://a:1"}) == "http://a:1"
    assert cluster_url("http://b:2", {VARIABLE: "http://a:1"}) == "http://b:2"


@pytest.mark.parametrize("given", ["ray://head:10001", "auto", "s3://bucket", "http://", "http://head:port"])
def test_what_is_no_dashboard_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="--address: got .*dashboard"):
        cluster_url(given, {})


def test_without_any_address_the_sentence_says_where_one_goes() -> None:
    with pytest.raises(InputError, match=f"which cluster.*{VARIABLE}"):
        cluster_url(None, {})


@pytest.mark.parametrize("given", ["http://me:s3cret@head:8265", "ray://me:s3cret@head"])
def test_a_password_in_the_address_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(InputError) as caught:
        cluster_url(given, {})
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "is_open"),
    [("http://127.0.0.1:8265", False), ("http://localhost:1", False), ("https://head:443", False), ("http://head:8265", True)],
)  # fmt: skip
def test_which_wires_are_open(url: str, is_open: bool) -> None:
    assert is_open_wire(url) is is_open
