"""Buckets of object stores: S3 and what speaks its API, Google Cloud Storage, Azure Blob Storage.

Lives here: the only use of obstore: listing objects, fetching them, and the error words for what a store answers. Must not live
here: which of them are new, or how they are read (`files.py`).

Objects appear when their upload is complete, and their e-tag changes with their content: every request says which one it means
(`If-Match`). It is no hash of the content: the parts of an upload and the key it is encrypted with change it, too. From Amazon's
"GetObject" and "ListObjectsV2" (API reference of S3) and "Getting Started" of obstore.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore.exceptions import BaseError, InvalidPathError, PreconditionError
from obstore.store import ObjectStore, from_url

from core import scratch
from core.errors import Fatal, Forbidden, Retriable, TenureError, Unauthorized
from core.http import TRANSIENT, tell
from core.source_settings import BucketConfig
from sources.base import FileVersion
from sources.places import Found, Here, is_left_out, matches, nothing_matches, stem

if TYPE_CHECKING:
    from obstore import ObjectMeta as _Entry  # which is there for type checkers only

FETCHES = 8
"""Objects that are fetched at the same time."""
_BUFFER_BYTES = 4 * 1024 * 1024
_PATIENCE = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "12h"}
"""Of connecting, of an answer that keeps still, and of a whole object, which may be large."""
_E_TAG = "etag:"
"""Before what is remembered of an object's version, so that it is never taken for the hash of a file."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_UNKNOWN_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthenticationFailed")
_WRONG_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_ROLES = ("169.254.169.254", "metadata.google.internal")
"""Whom the library asks for the role of the machine, when there are no keys."""


class Bucket:
    """A bucket, or what lies below a prefix of it. Its objects are fetched into a folder below `temp_directory` to be read."""

    is_far = True

    def __init__(self, url: str, config: BucketConfig, *, temp_directory: Path) -> None:
        self.url = url.rstrip("/") + "/"
        self._config = config
        self._temp_directory = temp_directory

    @cached_property
    def _store(self) -> ObjectStore:
        return _store(self.url, self._config)

    def find(self, patterns: Sequence[str], *, label: str, may_be_none: bool = False) -> list[Found]:
        """See `Place.find`. Only the folders that a glob names in full are listed, and what is below them where it needs that."""
        found = {
            entry["path"]: self._found(entry)
            for prefix, is_flat in {stem(pattern) for pattern in patterns}
            for entry in self._list(prefix, label, is_flat=is_flat)
            if any(matches(entry["path"], pattern) for pattern in patterns)
        }
        if not found and not may_be_none:
            raise nothing_matches(label, patterns, self.url)
        return [found[key] for key in sorted(found)]

    @contextmanager
    def here(self, files: Sequence[FileVersion], *, label: str) -> Iterator[Here]:
        """See `Place.here`. The copies are gone when the context ends, or, after a kill, when the next stream is opened."""
        with scratch.folder(self._temp_directory) as copies:
            place = Here(copies, self.url)

            def fetch(file: FileVersion) -> None:
                self._fetch(file, place.path(file.path), label)

            with ThreadPoolExecutor(max_workers=FETCHES) as pool:
                for _ in pool.map(fetch, files):
                    pass
            yield place

    def check_unchanged(self, files: Sequence[FileVersion], *, label: str) -> None:
        """See `Place.check_unchanged`: copies do not change, and were of the version that was asked for."""

    def _list(self, prefix: str, label: str, *, is_flat: bool) -> Iterator[_Entry]:
        """The objects right in a folder, or all that are below it, without those that are left out everywhere."""
        within = prefix or None
        try:
            if is_flat:
                pages: Iterable[Sequence[_Entry]] = [obstore.list_with_delimiter(self._store, within)["objects"]]
            else:
                pages = obstore.list(self._store, within, chunk_size=1000)
            for page in pages:
                for entry in page:
                    name = entry["path"].rpartition("/")[2]
                    if not is_left_out(name) and not _is_folder(name, entry["size"]):
                        yield entry
        except InvalidPathError as error:
            raise Fatal(
                f"{label}: {self.url}{prefix} holds an object whose key cannot be read: {tell(_first_line(error))}",
                hint="Rename it, or let `path` or `files` name a folder without it.",
            ) from None
        except (BaseError, OSError) as error:
            raise self._refused(error, label, f"{self.url}{prefix}", "s3:ListBucket") from None

    def _found(self, entry: _Entry) -> Found:
        changed = entry["last_modified"]
        mtime_ns = (changed - _EPOCH) // timedelta(microseconds=1) * 1000
        # Stores that speak the API of S3 need not have e-tags.
        version = _E_TAG + entry["e_tag"] if entry["e_tag"] else f"modified:{mtime_ns} {entry['path']}"
        return Found(self.url + entry["path"], entry["size"], mtime_ns, version)

    def _fetch(self, file: FileVersion, to: Path, label: str) -> None:
        """Write a copy of the very version that is meant."""
        key = file.path.removeprefix(self.url)
        e_tag = file.version.removeprefix(_E_TAG) if file.version.startswith(_E_TAG) else ""
        changed = Retriable(f"{label}: {file.path} changed or went between being listed and being read.")
        written = 0
        try:
            # Azure lists e-tags without the quotes that a condition must have: there, the answer is compared.
            answer = obstore.get(self._store, key, options={"if_match": e_tag if e_tag.startswith('"') else None})
            told = answer.meta["e_tag"]
            to.parent.mkdir(parents=True, exist_ok=True)
            with to.open("wb") as copy:
                for piece in answer.stream(min_chunk_size=_BUFFER_BYTES):
                    written += copy.write(piece)
        except (PreconditionError, FileNotFoundError):  # the latter is obstore's word for 404
            raise changed from None
        except BaseError as error:
            raise self._refused(error, label, file.path, "s3:GetObject") from None
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR):
                raise
            raise Fatal(
                f"{label}: no copy of {file.path} can be written: {error.strerror}.", hint="Rename the object."
            ) from None
        if written != file.size or (told and e_tag and told.strip('"') != e_tag.strip('"')):
            raise changed

    def _refused(self, error: Exception, label: str, where: str, action: str) -> TenureError:
        """The error word for what the store said. Its sentence is repeated, and nothing else of its answer, which names the key
        that was used."""
        text = str(error)
        code = _among(text, r"<Code>(\w+)</Code>")
        status = int(_among(text, r"status code: (\d{3})") or 0)
        sentence = tell(_among(text, r"<Message>([^<]*)</Message>"), *self._config.secrets)
        if any(address in text for address in _ROLES):
            return Unauthorized(
                f"{label}: {where}: there are no keys, and this machine has no role.",
                hint="Set `access_key_id` and `secret_access_key` in `bucket`, or the environment variables of the store.",
            )
        if "builder error" in text:
            return Fatal(
                f"{label}: {where}: the address is not one of https.", hint="Begin the endpoint with https://."
            )
        if "received redirect" in text.lower() or code in _WRONG_REGION:
            return Fatal(f"{label}: {where} is in another region.", hint="Set `region` in `bucket`.")
        if not status:
            cause = tell(_first_line(error).rpartition(" - ")[2], *self._config.secrets)
            return Retriable(f"{label}: {where}: the store does not answer: {cause}.")
        told = f"{label}: {where}: " + ": ".join(filter(None, (f"{status} {code or ''}".strip(), sentence)))
        if status in TRANSIENT or status >= 500:
            return Retriable(told)
        if status == 401 or code in _UNKNOWN_KEYS:
            return Unauthorized(
                told, hint="Check the keys of `bucket`: are they set, of this account, and not expired?"
            )
        if status == 403:
            return Forbidden(told, hint=f"Allow {action} there, or what the store calls it.")
        return Fatal(told, hint="Check `path`: is the bucket spelled as it is?")


def _store(url: str, config: BucketConfig) -> ObjectStore:
    """The store of a URL. Without keys it takes those of the environment, or of the role of the machine.

    Raises `Fatal` for settings that make no store, such as a container of Azure without its account.
    """
    given: dict[str, Any] = {}
    client: dict[str, Any] = {**_TIMEOUTS, "allow_http": False}
    if config.endpoint is not None:
        given["endpoint"] = config.endpoint
        client["allow_http"] = config.endpoint.startswith("http:")
    if config.region is not None:
        given["region"] = config.region
    if config.anonymous:
        given["skip_signature"] = True
    keys = _keys(config)
    if keys is not None:
        # Through a function, the library neither mixes them with those of the environment nor shows them.
        given["credential_provider"] = lambda: keys
    try:
        return from_url(url, client_options=cast(Any, client), retry_config=cast(Any, _PATIENCE), **given)
    except (BaseError, ValueError) as error:
        raise Fatal(f"{url}: {tell(_first_line(error), *config.secrets)}", hint="Check `path` and `bucket`.") from None


def _keys(config: BucketConfig) -> dict[str, str | None] | None:
    if config.access_key_id is None or config.secret_access_key is None:
        return None
    token = config.session_token
    return {
        "access_key_id": config.access_key_id.get_secret_value(),
        "secret_access_key": config.secret_access_key.get_secret_value(),
        "token": None if token is None else token.get_secret_value(),
        "expires_at": None,
    }


def _is_folder(name: str, size: int) -> bool:
    """Consoles and Hadoop make empty objects that stand for folders; their names have no ending."""
    return size == 0 and "." not in name


def _among(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _first_line(error: Exception) -> str:
    """What an error says; the lines below it are for the library's own developers."""
    return str(error).split("\n")[0]
