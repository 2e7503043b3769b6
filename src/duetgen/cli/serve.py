"""`duet serve`: the cloud."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from duetgen.cli.printed import json_lines
from duetgen.errors import DuetError, MissingExtraError


def serve(
    bundles: Annotated[
        list[Path],
        Parameter(help="Bundle folders, or registry folders that hold bundles and are watched for new ones."),
    ],
    /,
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8000,
    open: Annotated[
        bool, Parameter(negative="", help="Development: answer anyone without a token; on loopback alone.")
    ] = False,
    tokens: Annotated[
        str | None,
        Parameter(help="Store of tokens, made by `duet tokens add`: a file, or postgresql://USER@HOST/DATABASE."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        Parameter(negative="", help="Public key that may sign bundles, or a file of them; may be repeated [any]."),
    ] = None,
    workers: Annotated[int, Parameter(help="Worker processes.")] = 1,
    ttl: Annotated[int, Parameter(help="Seconds until an answer expires.")] = 86_400,
    rate: Annotated[float, Parameter(help="Requests a second for each device and worker; 0: no limit.")] = 10.0,
    burst: Annotated[int, Parameter(help="Requests that a device may make at once.")] = 100,
    waiting: Annotated[int, Parameter(help="Requests of a worker that may wait; more are shed.")] = 256,
    body_seconds: Annotated[float, Parameter(help="Seconds that a request may take to arrive.")] = 10.0,
    poll: Annotated[float, Parameter(help="Seconds between looks at registry folders.")] = 1.0,
    cors: Annotated[
        list[str] | None, Parameter(negative="", help="Origin of web pages that may ask; may be repeated [none].")
    ] = None,
    demo: Annotated[
        bool,
        Parameter(
            negative="",
            help="Show a page at /demo/ where a browser is a device; without --tokens it is --open as well.",
        ),
    ] = False,
    certificate: Annotated[Path | None, Parameter(help="PEM file for TLS.")] = None,
    key: Annotated[Path | None, Parameter(help="PEM file of the certificate's private key.")] = None,
    log_requests: Annotated[bool, Parameter(negative="", help="Log every request.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print one line of JSON when ready.")] = False,
) -> None:
    """Serve parameters to devices.

    Answers until SIGTERM or SIGINT, then finishes what it has accepted. SIGHUP looks at the registry folders at once.
    """
    with json_lines():
        try:
            from duetgen.cloud.config import ServiceConfig
            from duetgen.cloud.log import Log
            from duetgen.cloud.server import Address
            from duetgen.cloud.server import serve as run
            from duetgen.cloud.startup import check_settings, check_sources
            from duetgen.cloud.tokens import is_url
            from duetgen.cloud.trust import trusted_keys
        except ImportError as cause:
            raise MissingExtraError(
                f"the service needs packages that are not here ({cause.name})", "pip install 'duetgen[cloud]'"
            ) from cause

        trusted = trusted_keys(trust or [])
        open = open or (demo and tokens is None)
        config = ServiceConfig(
            sources=tuple(str(path.resolve()) for path in bundles),
            trusted=trusted,
            tokens=tokens if tokens is None or is_url(tokens) else str(Path(tokens).resolve()),
            ttl=ttl,
            rate=rate,
            burst=burst,
            waiting=waiting,
            body_seconds=body_seconds,
            poll_seconds=poll,
            origins=tuple(cors or ()),
            demo=demo,
            log_requests=log_requests,
            workers=workers,
        )
        check_settings(config, open)
        found, refused = check_sources(config)
        log = Log(b"", False)
        for path, error in refused:
            log.write("error", "bundle refused", folder=path.name, code=error.code, reason=error.message)
        if open:
            log.write("warning", "open mode", reason="anyone on this machine is answered, without a token")
        if trusted is None:
            log.write(
                "warning", "any key", reason="bundles signed by any key are served; name those that may with --trust"
            )

        def ready(address: Address) -> None:
            models = [manifest.model_id for manifest in found]
            mode = "open" if config.open else "tokens"
            if json:
                line = {"url": address.url, "models": models, "mode": mode, "workers": workers, "pid": os.getpid()}
                line |= {"demo": f"{address.url}/demo/"} if demo else {}
                sys.stdout.write(jsonlib.dumps(line) + "\n")
            else:
                names = ", ".join(f"{manifest.name} {manifest.model_id[:12]}" for manifest in found)
                sys.stdout.write(f"serving {names} at {address.url} ({mode}, {workers} worker{'s' * (workers > 1)})\n")
                if demo:
                    sys.stdout.write(f"the demo is at {address.url}/demo/\n")
            sys.stdout.flush()

        code = run(config, Address(host=host, port=port, certificate=certificate, key=key), ready)
        if code:
            raise WorkersFailedError("a worker process failed", "see the lines above")


class WorkersFailedError(DuetError):
    """The worker processes of `duet serve` ended by themselves."""

    code = "workers-failed"
