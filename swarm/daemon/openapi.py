"""The OpenAPI document of the API; a test holds the real answers against it."""

from __future__ import annotations

from typing import Any, Final

from swarm.daemon.http_messages import MANIFEST_TYPE

Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_MAYBE_TEXT: Final[Json] = {"type": ["string", "null"]}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_RATE: Final[Json] = {"type": "number", "minimum": 0}
_MAYBE_NUMBER: Final[Json] = {"type": ["number", "null"], "minimum": 0}
_FLAG: Final[Json] = {"type": "boolean"}
_LIMIT: Final[Json] = {
    "type": ["integer", "null"],
    "minimum": 1,
    "description": "Bytes per second; null is no limit.",
}

_RULE: Final[Json] = {
    "ratio": {**_MAYBE_NUMBER, "description": "Seed until so many times the size was sent; 0: no end by it."},
    "copies": {
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "Seed until so many peers have got all of it.",
    },
    "seed_seconds": {**_MAYBE_NUMBER, "description": "Seed so long. Null: as the rule of all together."},
}


def _object(properties: Json, *, required: bool = True, closed: bool = True) -> Json:
    made: Json = {"type": "object", "properties": properties, "additionalProperties": not closed}
    if required:
        made["required"] = sorted(properties)
    return made


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_SUMMARY: Final[Json] = {
    "id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "kind": {"enum": ["share", "fetch"]},
    "state": {
        "enum": ["opening", "hashing", "fetching", "seeding", "finished", "paused", "waiting", "failed"]
    },
    "name": _TEXT,
    "manifest": _MAYBE_TEXT,
    "link": _MAYBE_TEXT,
    "series": {**_MAYBE_TEXT, "description": "The link of the series that is followed."},
    "release": {
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "The release of the series that is here or, unless complete, on its way.",
    },
    "path": _MAYBE_TEXT,
    "output": _MAYBE_TEXT,
    "error": _MAYBE_TEXT,
    "exit_code": {"type": ["integer", "null"], "description": "What a command ends with for the error."},
    "note": _MAYBE_TEXT,
    **dict.fromkeys(
        ("size", "done", "pieces", "pieces_done", "hashed", "hash_total", "received", "sent", "wasted"),
        _COUNT,
    ),
    "down_rate": _RATE,
    "up_rate": _RATE,
    "seconds_left": _MAYBE_NUMBER,
    "peers": _COUNT,
    "full_peers": _COUNT,
    "complete": _FLAG,
    "upload_limit": _LIMIT,
    "download_limit": _LIMIT,
    **_RULE,
    "finished": {**_MAYBE_TEXT, "description": "Why seeding has ended."},
    "added": {"type": "number", "description": "Seconds since 1970, by the wall clock."},
}
_SOURCE: Final[Json] = {
    "source": _TEXT,
    "address": _TEXT,
    "connected": _FLAG,
    "inbound": _FLAG,
    "banned": _FLAG,
    **dict.fromkeys(("received", "sent", "pieces", "wasted"), _COUNT),
    "down_rate": _RATE,
    "up_rate": _RATE,
    "round_trip": {**_MAYBE_NUMBER, "description": "Seconds."},
    "found": {"type": "string", "description": "What named this peer first; empty if it came by itself."},
    "why": {"type": "string", "description": "The reason of the last request to this source."},
    "has": {**_MAYBE_NUMBER, "maximum": 1, "description": "The share of the content that it has."},
}
_LIMITS: Final[Json] = {"upload_limit": _LIMIT, "download_limit": _LIMIT}
_RULES: Final[Json] = {
    **_LIMITS,
    "schedule": {
        **_list(_TEXT),
        "description": "Limits by the time of day, e.g. 'mon-fri 08:00-18:00 up 2MB/s down 10MB/s'.",
    },
    **_RULE,
}
_NODE: Final[Json] = {
    "peer": _TEXT,
    "addresses": _list(_TEXT),
    "uptime": _RATE,
    "transfers": _COUNT,
    "down_rate": _RATE,
    "up_rate": _RATE,
    "received": _COUNT,
    "sent": _COUNT,
    "upload_limit_now": {**_LIMIT, "description": "What holds at this moment, by the schedule."},
    "download_limit_now": _LIMIT,
    **_RULES,
}
_NEW: Final[Json] = {
    "path": {"type": "string", "description": "An absolute path to share."},
    "link": {
        "type": "string",
        "description": (
            "What to fetch: a swarm: link, an id, or the absolute path of a .swarm file. "
            "The link of a series is followed from release to release."
        ),
    },
    "output": {"type": "string", "description": "The folder of a fetch, an absolute path."},
    "name": {"type": "string", "description": "The name that others get, or the final name of a fetch."},
    "only": {**_list(_TEXT), "description": "Patterns of the files to fetch."},
    "peers": {**_list(_TEXT), "description": "Multiaddrs of peers to ask, too."},
    "sequential": _FLAG,
    "paused": _FLAG,
    **_LIMITS,
    **_RULE,
    "origins": {**_list(_TEXT), "description": "URLs of web servers that have it; public addresses only."},
    "origin_use": {"enum": ["together", "fallback", "never"]},
    "trusted": {**_list(_TEXT), "description": "Keys, one of which must have signed the manifest."},
    "bases": {**_list(_TEXT), "description": "Absolute paths that may hold the same content."},
    "ignore": {**_list(_TEXT), "description": "Patterns of what in a folder is not shared."},
    "omit": {**_list(_TEXT), "description": "Absolute paths in a folder that are not shared."},
    "skip": {"type": "boolean", "description": "Leave out what cannot be shared."},
    "overwrite": {"type": "boolean", "description": "Replace existing files that differ."},
    "times": {"type": "boolean", "description": "Give files the modification times of the original."},
    "prefer_near": _FLAG,
    "max_peers": {"type": "integer", "minimum": 1},
    "piece_size": {"type": "integer", "description": "Bytes, a power of two from 16 KiB to 16 MiB."},
}

SCHEMAS: Final[Json] = {
    "Summary": _object(_SUMMARY),
    "Details": _object(
        {
            **_SUMMARY,
            "sources": _list(_ref("Source")),
            "files": _list(_ref("File")),
            "file_count": _COUNT,
            "piece_map": {
                "type": "string",
                "description": "Base64: a byte for each cell, 255 where all of its pieces are here.",
            },
            "notes": _list(_TEXT),
        }
    ),
    "File": _object({"number": _COUNT, "path": _TEXT, "size": _COUNT, "type": _TEXT, "url": _TEXT}),
    "Source": _object(_SOURCE),
    "Node": _object(_NODE),
    "Status": _object({"version": _TEXT, "output": _TEXT, "changes": _TEXT, "node": _ref("Node")}),
    "Delta": _object(
        {
            "version": {"type": "string", "description": "What to ask for next time, as since."},
            "whole": {"type": "boolean", "description": "These are all transfers: forget the others."},
            "transfers": _list(_ref("Summary")),
            "removed": _list(_TEXT),
            "node": _ref("Node"),
        }
    ),
    "Removed": _object({"id": _TEXT, "name": _TEXT}),
    "Rules": _object({name: _NODE[name] for name in (*_RULES, "upload_limit_now", "download_limit_now")}),
    "Error": _object({"error": _object({"message": _TEXT, "exit_code": {"type": "integer"}})}),
    "New": _object(_NEW, required=False),
    "Change": _object({"paused": _FLAG, **_LIMITS, **_RULE}, required=False),
    "ChangedRules": _object(_RULES, required=False),
}


def _json(name: str) -> Json:
    return {"application/json": {"schema": _ref(name)}}


def _answers(name: str, *further: str) -> Json:
    texts = {
        "201": "It is new.",
        "400": "The request makes no sense.",
        "404": "There is no such transfer.",
        "409": "The content is transferred to another place.",
        "503": "The disk refuses.",
    }
    answers: Json = {"200": {"description": "Done.", "content": _json(name)}}
    for status in further:
        what = name if status == "201" else "Error"
        answers[status] = {"description": texts[status], "content": _json(what)}
    for status, text in (
        ("401", "The token is missing or wrong (TCP only)."),
        ("403", "A wrong Host or Origin (TCP only)."),
    ):
        answers[status] = {"description": text, "content": _json("Error")}
    return answers


def _operation(summary: str, answers: Json, **further: Any) -> Json:
    return {"summary": summary, "responses": answers, **further}


def _query(name: str, text: str) -> Json:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": _TEXT}


def _body(name: str, **further: Json) -> Json:
    return {"required": True, "content": {**_json(name), **further}}


def _text_answer(kind: str) -> Json:
    return {"200": {"description": "Text.", "content": {kind: {"schema": _TEXT}}}}


_BYTES: Final[Json] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def _paths() -> Json:
    since = _query("since", "A version; without it all is answered.")
    wait = _query("wait", "Seconds to wait for a change, at most 30.")
    number = _query("since", "The number of the last event that is known; 0: all of this run.")
    manifest = {MANIFEST_TYPE: {"schema": {"type": "string", "format": "binary"}}}
    identified = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
    identified["description"] = "An id, the beginning of one or of a manifest's, or a name."
    return {
        "/v1/status": {"get": _operation("The daemon", _answers("Status"))},
        "/v1/transfers": {
            "get": _operation(
                "Transfers, or what has changed", _answers("Delta", "400"), parameters=[since, wait]
            ),
            "post": _operation(
                "Share a path, or fetch a link or a manifest",
                _answers("Summary", "201", "400", "409", "503"),
                requestBody=_body("New", **manifest),
                parameters=[_query("output", "The folder, if the body is a manifest.")],
            ),
        },
        "/v1/transfers/{id}": {
            "parameters": [identified],
            "get": _operation("One transfer", _answers("Details", "404")),
            "patch": _operation(
                "Pause, resume, limit, or say when it is seeded enough",
                _answers("Summary", "400", "404", "503"),
                requestBody=_body("Change"),
            ),
            "delete": _operation("Forget; the files stay", _answers("Removed", "404", "503")),
        },
        **_paths_of_bytes(identified, manifest),
        "/v1/limits": {
            "patch": _operation(
                "Limits and rules of all together",
                _answers("Rules", "400", "503"),
                requestBody=_body("ChangedRules"),
            )
        },
        "/v1/events": {
            "get": _operation(
                "Events as they come (docs/events.md); first a snapshot if some are forgotten",
                _text_answer("text/event-stream"),
                parameters=[number],
            )
        },
        "/v1/openapi.json": {
            "get": _operation(
                "This document", {"200": {"description": "This.", "content": {"application/json": {}}}}
            )
        },
        "/metrics": {"get": _operation("Metrics for Prometheus", _text_answer("text/plain"))},
    }


def _paths_of_bytes(identified: Json, manifest: Json) -> Json:
    return {
        "/v1/transfers/{id}/manifest": {
            "parameters": [identified],
            "get": _operation(
                "Its .swarm file, with this node's addresses",
                {
                    "200": {"description": "The file.", "content": manifest},
                    "404": {"description": "There is no such transfer.", "content": _json("Error")},
                    "409": {"description": "The transfer is not open.", "content": _json("Error")},
                },
            ),
        },
        "/v1/transfers/{id}/qr": {
            "parameters": [identified],
            "get": _operation(
                "Its link as a QR code; of many peers the first ones",
                {
                    "200": {"description": "The image.", "content": {"image/svg+xml": {"schema": _TEXT}}},
                    "404": {"description": "There is no such transfer.", "content": _json("Error")},
                    "409": {"description": "Its manifest is not known.", "content": _json("Error")},
                },
            ),
        },
        "/v1/transfers/{id}/files/{number}": {
            "parameters": [
                identified,
                {
                    "name": "number",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "integer", "minimum": 0},
                },
                _query("key", "What opens this file without the token; it is in the url of the file."),
            ],
            "get": _operation(
                "Bytes of a file, verified; what is read next is fetched first. Takes one range",
                {
                    "200": {"description": "All.", "content": _BYTES},
                    "206": {"description": "The range.", "content": _BYTES},
                    "404": {"description": "No such transfer or file.", "content": _json("Error")},
                    "409": {"description": "The transfer is not open.", "content": _json("Error")},
                    "416": {"description": "No such bytes.", "content": _json("Error")},
                },
            ),
        },
    }


def document(version: str) -> Json:
    """The document, for this version of swarm."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "swarm daemon", "version": version},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
