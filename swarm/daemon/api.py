"""The API: what each method and path does.

Answers are made of what is in memory; only what changes something waits for the disk.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from swarm.content.envelope import Envelope
from swarm.content.link import MAX_LINK_PEERS
from swarm.content.link_code import link_svg
from swarm.content.manifest import MAX_PIECE_LENGTH, MIN_PIECE_LENGTH
from swarm.daemon.file_ranges import SEALED, ByteRange, asks_range, media_type, sealed, wanted
from swarm.daemon.http_messages import MANIFEST_TYPE, Answer, BadRequest, HttpRequest, json_answer
from swarm.daemon.keeper import AlreadyKept, NotKept, TransferKeeper
from swarm.daemon.kept_entry import KeptEntry
from swarm.daemon.limit_schedule import LimitSchedule
from swarm.daemon.metrics import METRICS_TYPE, metrics
from swarm.daemon.openapi import document
from swarm.daemon.seeding_rules import SeedingRule
from swarm.daemon.transfer_view import details, link_to, node_view, summary
from swarm.daemon.wishes import FurtherOptions, Wishes
from swarm.errors import SwarmError, UsageError
from swarm.lazy_dataclass import dataclass, replace
from swarm.net.addresses import of_others
from swarm.transfer.transfer import Transfer

MAX_WAIT_SECONDS: Final = 30.0
"""How long a request for what has changed may wait for a change."""
MAX_TEXTS: Final = 256
"""Patterns or peers of one transfer."""
NOT_OPEN: Final = "the transfer is not open: resume it, or wait until its manifest is known"
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
            for part in ("/manifest", "/qr"):
                if name.endswith(part):
                    path, name = f"/v1/transfers/ID{part}", name.removesuffix(part)
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

    async def manifest(self, _request: HttpRequest, name: str) -> Answer:
        """The ``.swarm`` file of a transfer, with this node's addresses."""
        transfer = self.keeper.find(name).transfer
        if transfer is None or not transfer.is_open:
            return failure(409, NOT_OPEN, 5)
        addresses = of_others(self.keeper.node.addresses)[:MAX_LINK_PEERS]
        envelope = transfer.envelope
        data = await trio.to_thread.run_sync(lambda: envelope.with_peers(addresses).to_bytes())
        return Answer(200, data, MANIFEST_TYPE)

    async def link_code(self, _request: HttpRequest, name: str) -> Answer:
        """The link of a transfer as a QR code."""
        link = link_to(self.keeper.find(name), self.keeper)
        if link is None:
            return failure(409, NOT_OPEN, 5)
        svg = await trio.to_thread.run_sync(link_svg, link)
        return Answer(200, svg.encode("ascii"), "image/svg+xml", SEALED)

    async def open_file(self, request: HttpRequest, name: str, number: int) -> OpenedFile | Answer:
        """What to send of a file of a transfer, or what is wrong with the request."""
        await trio.lowlevel.checkpoint()
        try:
            entry = self.keeper.find(name)
        except NotKept as error:
            return failure(404, str(error), error.exit_code)
        transfer = entry.transfer
        if transfer is None or not transfer.is_open:
            return failure(409, NOT_OPEN, 5)
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
            *sealed(media_type(file.path[-1])),
        ]
        # Players ask for all bytes in this way, and take a plain answer for one that cannot be searched.
        partial = asks_range(asked) and bytes_.start < bytes_.stop
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
        wishes = _wishes(fields)
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
        kept = entry.kept
        upload, download = fields.limits(kept.upload_limit, kept.download_limit)
        rule = fields.rule(entry.rule)
        fields.end()
        if (upload, download) != (kept.upload_limit, kept.download_limit):
            await self.keeper.limit(entry, upload=upload, download=download)
        if rule != entry.rule:
            await self.keeper.set_rule(entry, rule)
        if paused is not None:
            await (self.keeper.pause if paused else self.keeper.resume)(entry)
        return self._about(entry, 200)

    async def remove(self, _request: HttpRequest, name: str) -> Answer:
        """Forget one transfer; its files stay."""
        entry = self.keeper.find(name)
        await self.keeper.remove(entry)
        return json_answer(200, {"id": entry.kept.id, "name": entry.kept.name})

    async def change_rules(self, request: HttpRequest, _name: str) -> Answer:
        """Set the limits of all transfers together, and the rules."""
        rules = self.keeper.rules
        fields = _Fields(request.json())
        limits = rules.limits
        upload, download = fields.limits(limits.upload, limits.download)
        schedule = fields.texts("schedule") if fields.has("schedule") else rules.schedule.texts
        rule = fields.rule(rules.rule)
        fields.end()
        # All of it is looked at before anything is kept.
        LimitSchedule.parse(schedule)
        if (upload, download) != (limits.upload, limits.download):
            await rules.limit(upload=upload, download=download)
        if schedule != rules.schedule.texts:
            await rules.set_schedule(schedule)
        if rule != rules.rule:
            await rules.set_rule(rule)
        await trio.lowlevel.checkpoint()
        return json_answer(200, rules.view())

    def _about(self, entry: KeptEntry, status: int) -> Answer:
        return json_answer(status, summary(entry, self.keeper, trio.current_time()))


_ROUTES: Final[dict[str, dict[str, Handler]]] = {
    "/v1/status": {"GET": Api.status},
    "/v1/limits": {"PATCH": Api.change_rules},
    "/v1/transfers": {"GET": Api.transfers, "POST": Api.add},
    "/v1/transfers/ID": {"GET": Api.transfer, "PATCH": Api.change, "DELETE": Api.remove},
    "/v1/transfers/ID/manifest": {"GET": Api.manifest},
    "/v1/transfers/ID/qr": {"GET": Api.link_code},
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


def _encodable(text: str) -> bool:
    """Whether a text may be a file name, which need not be UTF-8."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _number(request: HttpRequest, name: str, default: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest(400, f"{name} is a number of seconds")
    return float(text)


def _wishes(fields: _Fields) -> Wishes:
    upload, download = fields.limits(None, None)
    return Wishes(
        name=fields.text("name") or "",
        only=fields.texts("only"),
        peers=fields.texts("peers"),
        sequential=fields.flag("sequential") or False,
        paused=fields.flag("paused") or False,
        upload_limit=upload,
        download_limit=download,
        rule=fields.rule(SeedingRule()),
        further=_further(fields),
    )


def _further(fields: _Fields) -> FurtherOptions:
    usual = FurtherOptions()
    size = fields.count("piece_size", MIN_PIECE_LENGTH)
    if size is not None and (size & (size - 1) or size > MAX_PIECE_LENGTH):
        raise BadRequest(
            400, f"piece_size is a power of two from {MIN_PIECE_LENGTH} to {MAX_PIECE_LENGTH} bytes"
        )
    times = fields.flag("times")
    return FurtherOptions(
        origins=fields.texts("origins"),
        origin_use=fields.text("origin_use") or usual.origin_use,
        trusted=fields.texts("trusted"),
        bases=fields.texts("bases"),
        ignore=fields.texts("ignore"),
        omit=fields.texts("omit"),
        skip=fields.flag("skip") or False,
        overwrite=fields.flag("overwrite") or False,
        times=usual.times if times is None else times,
        prefer_near=fields.flag("prefer_near") or False,
        max_peers=fields.count("max_peers", 1),
        piece_size=size,
    )


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
        if not isinstance(value, str) or not value or "\0" in value or not _encodable(value):
            raise BadRequest(400, f"{name} is a text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._fields.pop(name, None)
        if value is None:
            return ()
        if (
            not isinstance(value, list)
            or len(value) > MAX_TEXTS
            or not all(isinstance(e, str) and _encodable(e) for e in value)
        ):
            raise BadRequest(400, f"{name} is a list of at most {MAX_TEXTS} texts")
        return tuple(value)

    def limits(self, upload: int | None, download: int | None) -> tuple[int | None, int | None]:
        """Both limits; one that is not given stays as it is."""
        return (
            self.limit("upload_limit") if self.has("upload_limit") else upload,
            self.limit("download_limit") if self.has("download_limit") else download,
        )

    def rule(self, rule: SeedingRule) -> SeedingRule:
        """The rule of seeding; what is not given stays as it is."""
        given: dict[str, Any] = {}
        for name, field in (("ratio", "ratio"), ("copies", "copies"), ("seed_seconds", "seconds")):
            if self.has(name):
                given[field] = self.count(name) if name == "copies" else self.number(name)
        return replace(rule, **given)

    def number(self, name: str) -> float | None:
        value = self._fields.pop(name, None)
        if value is not None and (type(value) not in {int, float} or not 0 <= value < 1e9):
            raise BadRequest(400, f"{name} is a number from 0, or null")
        return None if value is None else float(value)

    def count(self, name: str, least: int = 0) -> int | None:
        value = self._fields.pop(name, None)
        if value is not None and (type(value) is not int or not least <= value < 1 << 31):
            raise BadRequest(400, f"{name} is a whole number from {least}, or null")
        return value

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
