"""Refusals of the cloud: those that a caller gets as an answer, and those that keep the service from starting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from duetgen.errors import DuetError


class ServiceError(DuetError):
    """Base of what a caller is answered with.

    Attributes:
        status: of the HTTP answer.
        retry_after: seconds after which the same request may succeed; None: it never will.
        headers: further ones of the HTTP answer.
    """

    status: ClassVar[int] = 400
    retry_after: int | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()


class InvalidRequestError(ServiceError):
    """A request that is not what the endpoint takes: malformed, of wrong types, with unknown or repeated fields."""

    code = "invalid-request"


class InvalidHistoryError(ServiceError):
    """A history that is empty, too long, or holds an index that the version does not know."""

    code = "invalid-history"


class UnauthenticatedError(ServiceError):
    """No token, or one that is not known or was revoked."""

    code = "unauthenticated"
    status = 401
    headers = ((b"www-authenticate", b"Bearer"),)


class ForbiddenError(ServiceError):
    """A token that is good, but not for this: of another device, or without the scope."""

    code = "forbidden"
    status = 403


class NotFoundError(ServiceError):
    """A path that leads nowhere."""

    code = "not-found"
    status = 404


class UnknownModelError(ServiceError):
    """A version that is not in service."""

    code = "unknown-model"
    status = 404


class MethodNotAllowedError(ServiceError):
    """A path that exists, but not for this method; `allow` names those that it has."""

    code = "method-not-allowed"
    status = 405

    def __init__(self, allow: str) -> None:
        super().__init__(f"the path is for {allow} alone", "see /openapi.json")
        self.headers = ((b"allow", allow.encode("ascii")),)


class RequestTimeoutError(ServiceError):
    """A body that did not arrive in time."""

    code = "request-timeout"
    status = 408
    retry_after = 1
    headers = ((b"connection", b"close"),)


class PreconditionFailedError(ServiceError):
    """A condition of the request that the file does not meet."""

    code = "precondition-failed"
    status = 412


class BodyTooLargeError(ServiceError):
    """A body above the limit."""

    code = "body-too-large"
    status = 413


class UnsupportedContentError(ServiceError):
    """A body in a form that is not read: another content type, or compressed."""

    code = "unsupported-content"
    status = 415


class InvalidRangeError(ServiceError):
    """A range that a file of `size` bytes does not have."""

    code = "invalid-range"
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes, not that range", "ask for one range, as bytes=FIRST-LAST")
        self.headers = ((b"content-range", b"bytes */%d" % size),)


class RateLimitedError(ServiceError):
    """More requests by one device than its share."""

    code = "rate-limited"
    status = 429
    retry_after = 1


class HeadersTooLargeError(ServiceError):
    """A header that is longer than anything that is meant to stand in it."""

    code = "headers-too-large"
    status = 431


class InternalError(ServiceError):
    """A defect of the service; never caused by what a request says."""

    code = "internal"
    status = 500


class OverloadedError(ServiceError):
    """More requests at once than the service takes: it sheds the rest and stays ready."""

    code = "overloaded"
    status = 503
    retry_after = 1


class NotReadyError(ServiceError):
    """No version is in service, or the one in service fails its canary."""

    code = "not-ready"
    status = 503
    retry_after = 5


class StoppingError(ServiceError):
    """The process is about to end; another one answers."""

    code = "stopping"
    status = 503
    retry_after = 1


class TokensUnavailableError(ServiceError):
    """The store of tokens cannot be read just now.

    Attributes:
        reason: for the log; None: it was said before.
    """

    code = "tokens-unavailable"
    status = 503
    retry_after = 5

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("the store of tokens cannot be read", "ask again after Retry-After")
        self.reason = reason


class CanaryError(DuetError):
    """A bundle whose graphs do not compute here what was exported."""

    code = "canary-failed"


class NothingToServeError(DuetError):
    """`duet serve` without a single good bundle."""

    code = "nothing-to-serve"


class InvalidRolloutError(DuetError):
    """`rollout.json` or `latest` of a registry does not say which version to serve."""

    code = "invalid-rollout"


class OpenModeError(DuetError):
    """The open development mode on an address that others can reach, or together with tokens."""

    code = "open-mode"


class InvalidTrustError(DuetError):
    """A public key to trust that is none."""

    code = "invalid-trust"


class InvalidCertificateError(DuetError):
    """A certificate or its key that cannot be used for TLS."""

    code = "invalid-certificate"


class CannotListenError(DuetError):
    """The address and port cannot be taken."""

    code = "cannot-listen"


class InvalidTokensError(DuetError):
    """A store of tokens that cannot be opened, or a change to it that makes no sense."""

    code = "invalid-tokens"


class InvalidSettingError(DuetError):
    """A setting of the service that is out of its range."""

    code = "invalid-setting"
