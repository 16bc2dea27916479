"""The token of a cluster: where it is looked for, and who may read it."""

from pathlib import Path

import pytest

from ray_cxr.errors import InputError
from ray_cxr.submit.token import PATH_VARIABLE, VARIABLE, find_token


def _file(path: Path, text: str = "t0ken\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_order_is_option_then_variables_then_rays_own_file(tmp_path: Path) -> None:
    given = _file(tmp_path / "given", "of-the-option")
    named = _file(tmp_path / "named", "of-the-path")
    _file(tmp_path / ".ray/auth_token", "of-the-home")
    environment = {VARIABLE: "of-the-variable", PATH_VARIABLE: str(named)}
    found = []
    for option, variables in [(str(given), environment), (None, environment), (None, {PATH_VARIABLE: str(named)}), (None, {})]:  # fmt: skip
        token = find_token(option, variables, home=tmp_path)
        assert token is not None
        found.append(token.value)
    assert found == ["of-the-option", "of-the-variable", "of-the-path", "of-the-home"]
    assert find_token(None, {}, home=tmp_path / "nobody") is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = _file(tmp_path / "token", mode=mode)
    with pytest.raises(InputError, match=f"others can read.*{mode:04o}.*chmod 600") as caught:
        find_token(str(path), {})
    assert "t0ken" not in caught.value.message


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("two words", "more than one word"), ("a\nb", "more than one word")])  # fmt: skip
def test_what_is_no_token_is_told_without_it(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        find_token(str(_file(tmp_path / "token", text)), {})
    assert not text or text not in caught.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--token-file.*No such file"):
        find_token(str(tmp_path / "token"), {})
    with pytest.raises(InputError, match=f"{PATH_VARIABLE}.*No such file"):
        find_token(None, {PATH_VARIABLE: str(tmp_path / "token")})


def test_a_token_is_not_shown() -> None:
    token = find_token(None, {VARIABLE: "t0ken"})
    assert "t0ken" not in repr(token)
    assert "t0ken" not in f"{token}"
