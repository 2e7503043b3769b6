"""What evaluation refuses."""

from __future__ import annotations

from duetgen.errors import DuetError


class NonFiniteScoresError(DuetError):
    """A model gave scores that cannot be ranked: NaN, or an infinite score of the target."""

    code = "non-finite-scores"


class NothingToEvaluateError(DuetError):
    """The part holds no target, or too few devices for what was asked."""

    code = "nothing-to-evaluate"


class ProtocolUnavailableError(DuetError):
    """The protocol does not exist, or the dataset lacks what it needs."""

    code = "protocol-unavailable"


class InvalidConditionError(DuetError):
    """A condition of evaluation that does not exist or is out of its range."""

    code = "invalid-condition"


class VocabularyMismatchError(DuetError):
    """The model and the dataset do not number the same items."""

    code = "vocabulary-mismatch"


class NotComparableError(DuetError):
    """Two evaluations are not of the same targets, so their difference has no meaning."""

    code = "not-comparable"
