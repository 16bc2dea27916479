"""Errors cross process borders with their message and their exit code."""

import pickle

import pytest

from ray_cxr.errors import InputError, RayCxrError, RefusedError


@pytest.mark.parametrize(("kind", "code"), [(RayCxrError, 1), (InputError, 2), (RefusedError, 3)])
def test_error_pickles_with_message_and_exit_code(kind: type[RayCxrError], code: int) -> None:
    error = kind("train.epochs: got 0, but …")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind and isinstance(back, RayCxrError)
    assert back.message == str(back) == "train.epochs: got 0, but …"
    assert back.exit_code == code
