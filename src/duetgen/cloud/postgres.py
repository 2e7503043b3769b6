"""A PostgreSQL database by its URL: how it is reached, how messages name it, and what it says of a failure.

A URL may hold a password, and a malformed one may hold it anywhere. So messages name a database by what was understood
of its URL, without the password, and never quote what was not understood.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from duetgen.cloud.errors import InvalidTokensError

KEEPALIVE_SECONDS: Final = 30
"""After so long without a word, an idle connection is looked after, so that firewalls do not forget it."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, not connected to yet.

    Attributes:
        name: of it in messages: a URL without password and options.
        parameters: what psycopg connects with; what is not among them comes from the environment and `~/.pgpass`.
    """

    name: str
    parameters: dict[str, Any] = field(repr=False)


def parse_url(url: str, *, connect_seconds: int, statement_seconds: float, always: bool = False) -> Database:
    """The database of a URL.

    Args:
        url: `postgresql://USER@HOST:PORT/DATABASE?OPTIONS`, as libpq reads it.
        connect_seconds: how long connecting may take; libpq knows nothing below 2.
        statement_seconds: after how long the database gives up a statement.
        always: the first of these also where the URL or the environment says otherwise.

    Raises:
        InvalidTokensError: it is malformed.
    """
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    try:
        # An @, / or : of a password that is not written as %XX makes a host, a port or a database of parts of it.
        if url.count("@") > 1 or url.count("@") != authority.count("@"):
            raise malformed()
        parameters: dict[str, Any] = dict(conninfo_to_dict(url))
        host, port = str(parameters.get("host", "")), str(parameters.get("port", ""))
        if not re.fullmatch(r"[0-9,]*", port):
            raise malformed()
    except (psycopg.Error, UnicodeError):
        # What is wrong is said with parts of the URL.
        raise malformed() from None
    if always or not (parameters.get("connect_timeout") or os.environ.get("PGCONNECT_TIMEOUT")):
        parameters["connect_timeout"] = connect_seconds
    options = parameters.get("options") or os.environ.get("PGOPTIONS", "")
    parameters["options"] = f"{options} -c statement_timeout={round(1000 * statement_seconds)}".strip()
    parameters.setdefault("fallback_application_name", "duet")
    parameters.setdefault("keepalives_idle", KEEPALIVE_SECONDS)
    # Text is text whatever the database is encoded in, and nothing is kept that a pooler between would not know of.
    parameters.update(client_encoding="utf-8", autocommit=True, prepare_threshold=None)
    return Database(database_name(parameters.get("user"), host, port, parameters.get("dbname")), parameters)


def database_name(user: str | None, host: str, port: str, database: str | None) -> str:
    """What stands for a database in messages."""
    places = [
        (f"[{one}]" if ":" in one else quote(one, safe="")) + (f":{at}" if at else "")
        for one, at in zip_longest(host.split(","), port.split(","), fillvalue="")
    ]
    bearer = f"{quote(user, safe='')}@" if user else ""
    return f"postgresql://{bearer}{','.join(places)}/{quote(database or '', safe='')}"


def malformed() -> InvalidTokensError:
    """The refusal of a URL; without the URL."""
    return InvalidTokensError(
        "the URL of the store of tokens is malformed",
        "give postgresql://USER@HOST:PORT/DATABASE, with special characters as %XX",
    )


def reason(cause: BaseException) -> str:
    """What there is to say of a failure, in few words."""
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return cause.diag.message_primary
    # libpq says where it tried first, and gives advice in further lines.
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip()
