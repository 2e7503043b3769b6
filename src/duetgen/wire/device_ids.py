"""The id of the device of a user: the one place that decides it.

Device ids stand in tokens, addresses and headers, so they are 1 to 128 letters, digits and `. _ : -`. User ids of a log
may be any text.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from duetgen.wire.limits import MAX_DEVICE_BYTES

DEVICE_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_DEVICE_BYTES}}}")
HASHED: Final = "sha256:"


def device_id_of(user: str) -> str:
    """The device id of a user: the user's id if a device may have it, else `sha256:` and its SHA-256 in hexadecimal.

    Different users have different devices: an id that looks like such a hash is hashed as well.
    """
    if DEVICE_ID.fullmatch(user) and not user.startswith(HASHED):
        return user
    return HASHED + hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
