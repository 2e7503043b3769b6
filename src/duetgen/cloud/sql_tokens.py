"""What stores of tokens in SQL have in common: the statements, whatever the database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from duetgen.cloud.tokens import Scope, Token, make_token

COLUMNS: Final = ", ".join(Token.__struct_fields__)
LOOK: Final = f"select {COLUMNS} from tokens limit 1"
"""Goes well where there is a table of tokens."""
LOOK_BEFORE: Final = f"select {', '.join(Token.__struct_fields__[:-1])} from tokens limit 1"
"""Goes well also where it was made before tokens could expire."""
EXTEND: Final = "alter table tokens add column expires bigint"


class SQLTokens(ABC):
    """Changing and listing tokens; how a statement is run, and refused, is the database's part."""

    @abstractmethod
    def _run(self, statement: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        """Run one statement with `?` for its values: the rows that it gives, and how many it touched.

        Raises:
            InvalidTokensError: the database cannot do it.
        """

    def add(self, scope: Scope, device: str | None, note: str = "", seconds: int | None = None) -> str:
        """Make a token, remember its digest and return it: it is not seen again. Those that expired are forgotten.

        Raises:
            InvalidTokensError: scope and device do not go together, the id of the device is malformed, or the store
                cannot be written.
        """
        token, entry = make_token(scope, device, note, seconds)
        self._run("delete from tokens where expires <= ?", (entry.created,))
        self._run(f"insert into tokens ({COLUMNS}) values (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(entry))
        return token

    def revoke(self, *, digest: str | None = None, device: str | None = None) -> int:
        """Forget the tokens whose digest begins so, or all of a device; how many they were.

        Raises:
            InvalidTokensError: the store cannot be written.
        """
        if device is not None:
            return self._run("delete from tokens where device = ?", (device,))[1]
        return self._run("delete from tokens where substr(digest, 1, ?) = ?", (len(digest or "-"), digest))[1]

    def all(self) -> list[Token]:
        """All tokens, oldest first.

        Raises:
            InvalidTokensError: the store cannot be read.
        """
        rows, _ = self._run(f"select {COLUMNS} from tokens order by created, digest")
        return [Token(*row) for row in rows]
