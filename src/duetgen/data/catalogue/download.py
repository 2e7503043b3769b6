"""Downloading a file so that it is whole and the one that was meant, or not there.

What has come stays aside, under a hidden name, and the same call goes on with it: by a range, if the server has the
same file still and grants ranges, else from the start. Only a file with the size and checksum that are known gets its
name.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from duetgen import __version__
from duetgen.data.catalogue.entries import File
from duetgen.data.catalogue.errors import DownloadCorruptError, DownloadFailedError
from duetgen.errors import DuetError, OutputUnwritableError
from duetgen.files import unwritable
from duetgen.jobfolder import alone_in
from duetgen.wire import limits

PIECE: Final = 2**18
TRIES: Final = 4
"""So often a connection may be cut without a byte in between."""

TIMEOUT: Final = 60.0
"""Seconds that a server may be silent."""

PART: Final = ".{}.part"
"""What has come of a file."""

STATE: Final = ".{}.etag"
"""What the server said the file was, by which it is known again."""

MD5: Final = re.compile(rb"\b[0-9a-fA-F]{32}\b")
CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
UNSATISFIED: Final = re.compile(r"bytes \*/(\d+)")
RANGE_NOT_SATISFIABLE: Final = 416

NETWORK: Final = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
ELSEWHERE: Final = "free some space, or let DUETGEN_CACHE name another folder"
Tell = Callable[[int, int | None], None]
"""Hears how many bytes are there, and how many there will be where that is known."""


class Redirects(urllib.request.HTTPRedirectHandler):
    """Goes where a server points, but not from https to what anyone on the way can change, nor out of http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """See the base.

        Raises:
            DownloadFailedError: it leads away from https or http.
        """
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new != "https"):
            raise DownloadFailedError(f"{req.full_url} leads from {old} to {new}", "download it by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(file: File, folder: Path, tell: Tell = lambda done, total: None, *, pause: float = 1.0) -> Path:
    """Download a file, or go on with it, and check it.

    Args:
        file: what and from where.
        folder: to keep it in.
        tell: hears how it goes.
        pause: seconds before the first new try; it doubles.

    Raises:
        DownloadFailedError: the server cannot be reached, refuses, or cuts the connection again and again. What has
            come stays, and the same call goes on.
        DownloadCorruptError: the size or the checksum is another one than is known. What has come is removed.
        OutputUnwritableError: the disk is full, or the folder cannot be written.
        FolderBusyError: another process downloads into the folder.
    """
    assert file.url is not None
    target, part = folder / file.name, folder / PART.format(file.name)
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            part.touch()
            with part.open("r+b") as out:
                out.seek(0, os.SEEK_END)
                _receive(file, out, folder, tell, pause)
            _check(file, part)
            part.replace(target)
            (folder / STATE.format(file.name)).unlink(missing_ok=True)
    except DownloadCorruptError:
        part.unlink(missing_ok=True)
        raise
    except OSError as cause:
        raise OutputUnwritableError(unwritable(target, cause).message, ELSEWHERE) from cause
    return target


def _receive(file: File, out: IO[bytes], folder: Path, tell: Tell, pause: float) -> None:
    """Bring the part to its end, however often the connection is cut."""
    tries, before = 0, out.tell()
    while True:
        try:
            total = _once(file, out, folder, tell)
            if total is None or out.tell() == total:
                return
            why = f"the connection was cut after {out.tell():,} of {total:,} bytes"
        except DuetError:
            raise
        except urllib.error.HTTPError as cause:
            raise _refused(file, folder, f"the server answers {cause.code} {cause.reason}") from cause
        except NETWORK as cause:
            why = str(getattr(cause, "reason", "") or cause or type(cause).__name__)
        out.flush()
        tries = 0 if out.tell() > before else tries + 1
        before = out.tell()
        if tries >= TRIES:
            raise _refused(file, folder, why)
        time.sleep(pause * 2 ** min(tries, 4))


def _refused(file: File, folder: Path, why: str) -> DownloadFailedError:
    return DownloadFailedError(
        f"cannot download {file.url}: {why}",
        f"the same command goes on where it stopped; or download it by hand, and put it in {folder}",
    )


def _once(file: File, out: IO[bytes], folder: Path, tell: Tell) -> int | None:
    """One answer of the server, written behind what is there; gives the size of the whole file, where it is told."""
    state, have = folder / STATE.format(file.name), out.tell()
    headers = {"User-Agent": f"duetgen/{__version__}", "Accept-Encoding": "identity"}
    if have and state.is_file():
        headers |= {"Range": f"bytes={have}-", "If-Range": state.read_text("utf-8").strip()}
    else:
        have = _restart(out)
    request = urllib.request.Request(str(file.url), headers=headers)
    try:
        answer = urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as cause:
        if cause.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        span = UNSATISFIED.fullmatch(cause.headers.get("Content-Range", ""))
        if span is not None and int(span[1]) == have:  # All was there already.
            return have
        state.unlink()
        raise ConnectionError("it has another file now") from cause
    with answer:
        return _take(file, answer, out, have, state, tell)


def _restart(out: IO[bytes]) -> int:
    out.seek(0)
    return out.truncate()


def _take(file: File, answer: Any, out: IO[bytes], have: int, state: Path, tell: Tell) -> int | None:
    if answer.headers.get_content_type() == "text/html" and not file.name.endswith(".html"):
        raise DownloadFailedError(
            f"{file.url} gives a page and no file", f"open it in a browser, and put {file.name} in {state.parent}"
        )
    length = answer.headers.get("Content-Length")
    size = int(length) if length is not None and length.isdecimal() else None
    span = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status == http.client.PARTIAL_CONTENT:
        if span is None or int(span[1]) != have:
            state.unlink(missing_ok=True)
            raise ConnectionError("it sends another range than was asked for")
        total = int(span[2]) if span[2] != "*" else None if size is None else have + size
    else:
        have, total = _restart(out), size
    tag = answer.headers.get("ETag", "")
    validator = answer.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
    if validator:
        state.write_text(validator, "utf-8")
    elif not have:
        state.unlink(missing_ok=True)
    if total is not None and file.size is not None and total != file.size:
        raise DownloadCorruptError(
            f"{file.url} has {total:,} bytes, and {file.size:,} are known",
            "look at the publisher's page: it has changed",
        )
    free = shutil.disk_usage(state.parent).free
    if total is not None and total - have > free:
        raise OutputUnwritableError(
            f"{file.name} has {total - have:,} bytes to come, and the disk has {free:,} free", ELSEWHERE
        )
    out.seek(0, os.SEEK_END)
    tell(have, total)
    while piece := answer.read(PIECE):
        out.write(piece)
        have += len(piece)
        if have > limits.MAX_INPUT_BYTES:
            raise DownloadCorruptError(f"{file.url} does not end", "look at the publisher's page")
        tell(have, total)
    out.flush()
    return total


def _check(file: File, part: Path) -> None:
    """Refuse a file that has not the size and checksum that are known."""
    size = part.stat().st_size
    if file.size is not None and size != file.size:
        raise DownloadCorruptError(
            f"{file.name} has {size:,} bytes, and {file.size:,} are known", "the same command downloads it again"
        )
    known = file.md5 or (_published(file.md5_url) if file.md5_url else None)
    if known is None:
        return
    with part.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != known:
        raise DownloadCorruptError(
            f"{file.name} has the MD5 checksum {found}, and its publisher gives {known}",
            "the same command downloads it again; if that helps nothing, the publisher has changed it",
        )


def _published(url: str) -> str | None:
    """The checksum in the file that a publisher has beside another; None where there is none to be had."""
    try:
        with urllib.request.build_opener(Redirects).open(url, timeout=TIMEOUT) as answer:
            found = MD5.search(answer.read(PIECE))
    except (OSError, http.client.HTTPException):
        return None
    return found[0].decode().lower() if found else None
