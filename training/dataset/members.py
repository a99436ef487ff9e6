"""The files of a sample inside its shard, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .bad_sample import BadSample


@dataclass(frozen=True, kw_only=True)
class Members(Mapping[str, bytes]):
    """Suffix -> content, read from the shard at every access.

    Attributes:
        shard: path of the .tar file. places: suffix -> offset and size.
    """

    shard: str
    places: dict[str, tuple[int, int]]

    def __getitem__(self, suffix: str) -> bytes:
        return self.part(suffix, 0, self.places[suffix][1])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, suffix: object) -> bool:
        return suffix in self.places

    def part(self, suffix: str, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` of a member."""
        start, length = self.places[suffix]
        wanted = min(size, length - offset)
        try:
            with open(self.shard, "rb") as file:
                file.seek(start + offset)
                content = file.read(max(0, wanted))
        except OSError as error:
            raise BadSample("unreadable shard") from error
        if len(content) != wanted:
            raise BadSample("shard cut short")
        return content
