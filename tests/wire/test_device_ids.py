import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.wire.device_ids import device_id_of

ALLOWED = re.compile(r"[A-Za-z0-9._:-]{1,128}")
HASH_OF_A_BLANK = "sha256:36a9e7f1c95b82ffb99743e0c5c4ce95d83c9a430aac59f84ef3cbfab6145068"


@pytest.mark.parametrize("user", ["7", "u-1", "A2.B:c_d", "x" * 128])
def test_an_id_that_a_device_may_have_stays(user: str) -> None:
    assert device_id_of(user) == user


def test_another_is_hashed() -> None:
    assert device_id_of(" ") == HASH_OF_A_BLANK


@pytest.mark.parametrize("user", ["", "a b", "käufer", "a/b", "x" * 129, "sha256:", HASH_OF_A_BLANK, "a\n"])
def test_what_is_no_device_id_or_looks_like_a_hash_is_hashed(user: str) -> None:
    assert device_id_of(user) != user
    assert ALLOWED.fullmatch(device_id_of(user))


@given(st.sets(st.text(max_size=200), min_size=2, max_size=20))
def test_different_users_have_different_devices(users: set[str]) -> None:
    devices = {device_id_of(user) for user in users}
    assert len(devices) == len(users)
    assert all(ALLOWED.fullmatch(device) for device in devices)
    # Mapping a device id again never gives that of another user.
    assert all(device_id_of(device) in devices or device.startswith("sha256:") for device in devices)
