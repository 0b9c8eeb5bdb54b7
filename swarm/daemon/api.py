"""The API: what each method and path does.

Answers are made of what is in memory; only what changes something waits for the disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from swarm.content.envelope import Envelope
from swarm.daemon.file_ranges import SEALED, ByteRange, media_type, wanted
from swarm.daemon.http_messages import MANIFEST_TYPE, Answer, BadRequest, HttpRequest, json_answer
from swarm.daemon.keeper import AlreadyKept, NotKept, TransferKeeper, Wishes
from swarm.daemon.kept_entry import KeptEntry
from swarm.daemon.metrics import METRICS_TYPE, metrics
from swarm.daemon.openapi import document
from swarm.daemon.transfer_view import details, node_view, summary
from swarm.errors import SwarmError, UsageError
from swarm.lazy_dataclass import dataclass, replace
from swarm.transfer.transfer import Transfer

MAX_WAIT_SECONDS: Final = 30.0
"""How long a request for what has changed may wait for a change."""
MAX_TEXTS: Final = 256
"""Patterns or peers of one transfer."""
CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Handler = Callable[["Api", HttpRequest, str], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A part of the page, loaded when the daemon starts."""

    body: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """What is sent of a file that perhaps is not here yet."""

    status: int
    headers: tuple[tuple[str, str], ...]
    transfer: Transfer
    file: int
    bytes: ByteRange


class Api:
    """Answers requests; whoever calls has checked that they are allowed.

    ``output`` is where a fetch goes that names no folder. ``files`` are the parts of the page by their path.
    ``token`` is that of the TCP port, if there is one.
    """

    def __init__(
        self,
        keeper: TransferKeeper,
        output: str,
        version: str,
        files: dict[str, StaticFile],
        token: str = "",
    ) -> None:
        self.keeper = keeper
        self._output = output
        self._version = version
        self._files = files
        self._token = token

    async def answer(self, request: HttpRequest) -> Answer:
        """Answer one request; every declared error becomes an answer with its text and exit code."""
        try:
            return await self._route(request)
        except BadRequest as error:
            return failure(error.status, str(error), 2)
        except NotKept as error:
            return failure(404, str(error), error.exit_code)
        except AlreadyKept as error:
            return failure(409, str(error), error.exit_code)
        except UsageError as error:
            return failure(400, str(error), error.exit_code)
        except SwarmError as error:
            # A manifest that is none is the request's fault, a disk that refuses is ours.
            return failure(400 if error.exit_code == 3 else 503, str(error), error.exit_code)

    async def _route(self, request: HttpRequest) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        path, name = request.path, ""
        if path.startswith("/v1/transfers/"):
            path, name = "/v1/transfers/ID", path.removeprefix("/v1/transfers/")
        found = _ROUTES.get(path)
        if found is not None:
            if method not in found:
                raise BadRequest(405, f"{path} takes {', '.join(sorted(found))}")
            return await found[method](self, request, name)
        file = self._files.get(path)
        if file is None:
            raise BadRequest(404, "there is nothing under this path: see /v1/openapi.json")
        if method != "GET":
            raise BadRequest(405, "the page is only read")
        await trio.lowlevel.checkpoint()
        return Answer(200, file.body, file.kind, PAGE_HEADERS)

    # --- Reading ------------------------------------------------------------------------------------

    async def status(self, _request: HttpRequest, _name: str) -> Answer:
        """The node and the version."""
        await trio.lowlevel.checkpoint()
        node = node_view(self.keeper, trio.current_time())
        return json_answer(
            200,
            {"version": self._version, "output": self._output, "changes": self._version_now(), "node": node},
        )

    async def transfers(self, request: HttpRequest, _name: str) -> Answer:
        """All transfers, or those that have changed since a version; perhaps once something has."""
        since = request.query.get("since")
        seconds = min(_number(request, "wait", 0.0), MAX_WAIT_SECONDS)
        with trio.move_on_after(seconds):
            while since is not None and seconds and since == self._version_now():
                await self.keeper.changed()
        await trio.lowlevel.checkpoint()
        self.keeper.flowing()
        return json_answer(200, self.delta(since))

    def _version_now(self) -> str:
        self.keeper.flowing()
        return self.keeper.changes.version

    def delta(self, since: str | None) -> dict[str, Any]:
        """What has changed since a version; all for None."""
        now = trio.current_time()
        delta = self.keeper.changes.since(since)
        entries = self.keeper.entries
        return {
            "version": delta.version,
            "whole": delta.whole,
            "transfers": [summary(entries[each], self.keeper, now) for each in delta.changed],
            "removed": list(delta.removed),
            "node": node_view(self.keeper, now),
        }

    async def transfer(self, _request: HttpRequest, name: str) -> Answer:
        """Everything about one transfer."""
        await trio.lowlevel.checkpoint()
        entry = self.keeper.find(name)
        return json_answer(200, details(entry, self.keeper, trio.current_time(), self._token))

    async def metrics(self, _request: HttpRequest, _name: str) -> Answer:
        """The metrics, for Prometheus."""
        await trio.lowlevel.checkpoint()
        return Answer(200, metrics(self.keeper, trio.current_time()).encode(), METRICS_TYPE)

    async def openapi(self, _request: HttpRequest, _name: str) -> Answer:
        """The description of all this."""
        await trio.lowlevel.checkpoint()
        return json_answer(200, document(self._version))

    async def open_file(self, request: HttpRequest, name: str, number: int) -> OpenedFile | Answer:
        """What to send of a file of a transfer, or what is wrong with the request."""
        await trio.lowlevel.checkpoint()
        try:
            entry = self.keeper.find(name)
        except NotKept as error:
            return failure(404, str(error), error.exit_code)
        transfer = entry.transfer
        if transfer is None or not transfer.is_open:
            return failure(409, "the transfer is not open: resume it, or wait until its manifest is known", 5)
        if number not in transfer.files:
            return failure(404, "the transfer has no such file", 2)
        file = transfer.manifest.files[number]
        tag = f'"{transfer.id}-{number}"'
        asked = request.headers.get("range")
        if request.headers.get("if-range", tag) != tag:
            asked = None
        bytes_ = wanted(asked, file.length)
        if bytes_ is None:
            missing = failure(416, f"the file has {file.length} bytes", 2)
            return replace(missing, headers=(("content-range", f"bytes */{file.length}"),))
        headers = [
            ("content-type", media_type(file.path[-1])),
            ("accept-ranges", "bytes"),
            ("etag", tag),
            ("cache-control", "no-store"),
            *SEALED,
        ]
        partial = bytes_ != ByteRange(0, file.length)
        if partial:
            headers.append(("content-range", f"bytes {bytes_.start}-{bytes_.stop - 1}/{file.length}"))
        return OpenedFile(206 if partial else 200, tuple(headers), transfer, number, bytes_)

    # --- Changing -----------------------------------------------------------------------------------

    async def add(self, request: HttpRequest, _name: str) -> Answer:
        """Share a path, or fetch a link, an id or a manifest."""
        if request.headers.get("content-type", "").lower() == MANIFEST_TYPE:
            envelope = await trio.to_thread.run_sync(Envelope.from_bytes, request.body)
            output = request.query.get("output", self._output)
            entry, new = await self.keeper.fetch(envelope, output, Wishes())
            return self._about(entry, 201 if new else 200)
        fields = _Fields(request.json())
        path, link = fields.text("path"), fields.text("link")
        wishes = Wishes(
            name=fields.text("name") or "",
            only=fields.texts("only"),
            peers=fields.texts("peers"),
            sequential=fields.flag("sequential") or False,
            paused=fields.flag("paused") or False,
            upload_limit=fields.limit("upload_limit"),
            download_limit=fields.limit("download_limit"),
        )
        output = fields.text("output") or self._output
        fields.end()
        if (path is None) == (link is None):
            raise BadRequest(400, "give either a path to share or a link to fetch")
        if path is not None:
            entry, new = await self.keeper.share(path, wishes)
        else:
            entry, new = await self.keeper.fetch(link or "", output, wishes)
        return self._about(entry, 201 if new else 200)

    async def change(self, request: HttpRequest, name: str) -> Answer:
        """Pause, resume or limit one transfer."""
        entry = self.keeper.find(name)
        fields = _Fields(request.json())
        paused = fields.flag("paused")
        has_limits = fields.has("upload_limit") or fields.has("download_limit")
        upload, download = entry.kept.upload_limit, entry.kept.download_limit
        upload = fields.limit("upload_limit") if fields.has("upload_limit") else upload
        download = fields.limit("download_limit") if fields.has("download_limit") else download
        fields.end()
        if has_limits:
            await self.keeper.limit(entry, upload=upload, download=download)
        if paused is not None:
            await (self.keeper.pause if paused else self.keeper.resume)(entry)
        return self._about(entry, 200)

    async def remove(self, _request: HttpRequest, name: str) -> Answer:
        """Forget one transfer; its files stay."""
        entry = self.keeper.find(name)
        await self.keeper.remove(entry)
        return json_answer(200, {"id": entry.kept.id, "name": entry.kept.name})

    async def limit_all(self, request: HttpRequest, _name: str) -> Answer:
        """Limit all transfers together."""
        fields = _Fields(request.json())
        upload, download = self.keeper.upload_limit, self.keeper.download_limit
        upload = fields.limit("upload_limit") if fields.has("upload_limit") else upload
        download = fields.limit("download_limit") if fields.has("download_limit") else download
        fields.end()
        await self.keeper.limit_all(upload=upload, download=download)
        return json_answer(200, {"upload_limit": upload, "download_limit": download})

    def _about(self, entry: KeptEntry, status: int) -> Answer:
        return json_answer(status, summary(entry, self.keeper, trio.current_time()))


_ROUTES: Final[dict[str, dict[str, Handler]]] = {
    "/v1/status": {"GET": Api.status},
    "/v1/limits": {"PATCH": Api.limit_all},
    "/v1/transfers": {"GET": Api.transfers, "POST": Api.add},
    "/v1/transfers/ID": {"GET": Api.transfer, "PATCH": Api.change, "DELETE": Api.remove},
    "/v1/openapi.json": {"GET": Api.openapi},
    "/metrics": {"GET": Api.metrics},
}

PAGE_HEADERS: Final = (
    (
        "content-security-policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'"
        ),
    ),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)


def failure(status: int, message: str, exit_code: int) -> Answer:
    """An answer that says what is wrong, and the exit code that a command ends with for it."""
    return json_answer(status, {"error": {"message": message, "exit_code": exit_code}})


def _number(request: HttpRequest, name: str, default: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest(400, f"{name} is a number of seconds")
    return float(text)


class _Fields:
    """The fields of a JSON object, each taken once with its type; raises `BadRequest`."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def has(self, name: str) -> bool:
        return name in self._fields

    def text(self, name: str) -> str | None:
        value = self._fields.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, str) or not value or "\0" in value:
            raise BadRequest(400, f"{name} is a text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._fields.pop(name, None)
        if value is None:
            return ()
        if (
            not isinstance(value, list)
            or len(value) > MAX_TEXTS
            or not all(isinstance(e, str) for e in value)
        ):
            raise BadRequest(400, f"{name} is a list of at most {MAX_TEXTS} texts")
        return tuple(value)

    def flag(self, name: str) -> bool | None:
        value = self._fields.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise BadRequest(400, f"{name} is true or false")
        return value

    def limit(self, name: str) -> int | None:
        value = self._fields.pop(name, None)
        if value is not None and (type(value) is not int or not 1 <= value < 1 << 60):
            raise BadRequest(400, f"{name} is a number of bytes per second from 1, or null for no limit")
        return value

    def end(self) -> None:
        if self._fields:
            raise BadRequest(400, f"unknown: {', '.join(sorted(self._fields))[:200]}")
