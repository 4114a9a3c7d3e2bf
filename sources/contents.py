"""What files hold, whatever they are called: each content is loaded once, under the name of the file that owns its rows.

Lives here: which of the files that are new or changed are to be read, which were only moved, and which hold what another file held when
it was loaded. Must not live here: finding, fetching or reading files (`files.py`, `places.py`), the rows (`load.py`).

A content is known by the hash of what is inside, decompressed. One file owns it: rows that have no key are the owner's, and are
replaced when it changes. The others are its copies, which give nothing. When the owner goes, or holds something else from then on, a
copy that is still there takes its place; so events without ids count once, in whatever order copies come and go.

What comes a second time says nothing new: not where rows have no key, not where they happened, and not where they tell their version.
Only a state without a version may return to what it was, under the name of another day: that is read again, unless the file was only
moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sources.base import FileVersion

_EXAMPLES = 3


class Contents:
    """The files of one stream in one load: those `known` from earlier ones, and those that are `here`.

    `files` is what is to be remembered, by path; `moves` are what becomes of rows that are loaded, in this order: the path whose rows
    they are, and the one whose they are from then on, or None for rows that go. `may_return` says that a content under another name
    may be a state that returned.
    """

    def __init__(self, known: Mapping[str, FileVersion], here: Iterable[str], *, may_return: bool) -> None:
        # A copy that was gone when its owner came to hold something else is known no more.
        owned = {(one.path, one.content) for one in known.values() if one.copy_of is None}
        known = {path: one for path, one in known.items() if one.copy_of is None or (one.copy_of, one.content) in owned}
        self._known = dict(known)
        self._here = frozenset(here)
        self._may_return = may_return
        self.files: dict[str, FileVersion] = {}
        self.moves: list[tuple[str, str | None]] = []
        self._copies: list[str] = []
        self._copied = {one.copy_of for one in known.values() if one.copy_of is not None}
        # Of several that own the same, one that is here stands for them.
        owners = sorted(
            (one for one in known.values() if one.copy_of is None), key=lambda one: (one.path in self._here, one.path)
        )
        self._owners = {one.content: one for one in owners}
        self._gone = {_delivery(one): one for one in owners if one.path not in self._here}
        for one in known.values():
            if one.copy_of is None and one.path not in self._here:
                self._pass_on(one)

    def before(self, path: str) -> FileVersion | None:
        """What is known of the file of this name."""
        return self._known.get(path)

    def settle(self, versions: Iterable[FileVersion]) -> list[FileVersion]:
        """Of files that are new or changed, those that are to be read."""
        to_read = []
        for version in versions:
            before = self._known.get(version.path)
            if before is not None and before.content == version.content:
                self._remember(replace(version, columns=before.columns, copy_of=before.copy_of))
                continue
            if before is not None and before.copy_of is None:
                self._pass_on(before)
            owner = self._gone.get(_delivery(version)) if self._may_return else self._owners.get(version.content)
            if owner is None:
                self._own(version)
                to_read.append(version)
            elif owner.path not in self._here:
                self._move(owner, version)
            else:
                self._copies.append(version.path)
                self._remember(replace(version, columns=owner.columns, copy_of=owner.path))
        return to_read

    def read(self, versions: Iterable[FileVersion]) -> None:
        """Take note of files that are read."""
        for version in versions:
            self._own(version)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentence that names new copies; none where there are none."""
        copies = [self.files[path] for path in self._copies if self.files[path].copy_of is not None]
        if not copies:
            return ()
        shown = "; ".join(f"{one.path} as {one.copy_of}" for one in copies[:_EXAMPLES])
        more = f"; and {len(copies) - _EXAMPLES:,} more" if len(copies) > _EXAMPLES else ""
        held = "1 file holds" if len(copies) == 1 else f"{len(copies):,} files hold"
        return (f"{held} the same as one that is loaded ({shown}{more}): not loaded again. Take copies away.",)

    def _own(self, version: FileVersion) -> None:
        self._owners[version.content] = version
        self._remember(version)

    def _remember(self, version: FileVersion) -> None:
        self._known[version.path] = self.files[version.path] = version
        if version.copy_of is not None:
            self._copied.add(version.copy_of)

    def _copies_of(self, path: str) -> list[FileVersion]:
        # Of thousands of files, few have copies.
        return [one for one in self._known.values() if one.copy_of == path] if path in self._copied else []

    def _move(self, owner: FileVersion, to: FileVersion) -> None:
        self.moves.append((owner.path, to.path))
        self._known.pop(owner.path, None)
        self._gone.pop(_delivery(owner), None)
        self._own(replace(to, columns=owner.columns, copy_of=None))
        for copy in self._copies_of(owner.path):
            self._remember(replace(copy, copy_of=to.path))

    def _pass_on(self, owner: FileVersion) -> None:
        """Let a copy that is here take the place of an owner that is not, or that holds something else by now."""
        copies = sorted(
            one.path for one in self._known.values() if one.copy_of == owner.path and one.path in self._here
        )
        if copies:
            self._move(owner, self._known[copies[0]])
        elif owner.path in self._here:
            self.moves.append((owner.path, None))
            stands = self._owners.get(owner.content)
            if stands is not None and stands.path == owner.path:
                del self._owners[owner.content]


def _path(version: FileVersion) -> str:
    return version.path


def _delivery(version: FileVersion) -> tuple[str, int]:
    """What a file keeps that is moved or compressed: what it holds, and the time of its last change."""
    return version.content, version.mtime_ns // 10**9
