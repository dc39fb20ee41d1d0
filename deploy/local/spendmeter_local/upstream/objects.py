"""The fake model server's stored objects: background responses, files, batches, tuning jobs, videos.

Each one is billed once, when it is made, in the counts of `/served`; reading it again is not counted.

An object is unfinished until it has been read as often as `reads` in its metadata says (0: the first read
finds it finished). `ends` there says how it ends: `completed`, `failed`, `cancelled`, `expired` or
`incomplete`. A batch that ends early has an output file with only its first line.
"""

import asyncio
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from spendmeter_local.upstream import shapes as shapes
from spendmeter_local.upstream.plan import AnswerPlan, BadDirectiveError, plan_chat
from spendmeter_local.upstream.served import ServedLog
from spendmeter_local.upstream.shapes import Reply

MAX_KEPT = 1_000
"""Objects of each kind; the oldest are dropped first."""

Body = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NO_USAGE = AnswerPlan(reply=(), input_tokens=0, output_tokens=0)


@dataclass(slots=True)
class _Kept:
    """An object: its form before and after its end, and how many reads are left until then."""

    before: Body
    after: Body
    reads: int

    def read(self) -> Body:
        if self.reads <= 0:
            return self.after
        self.reads -= 1
        return self.before


class UpstreamObjects:
    """A middleware before the upstream's other routes: it answers requests about objects."""

    def __init__(self, served: ServedLog) -> None:
        self._served = served
        self._kept: dict[str, OrderedDict[str, Any]] = {
            kind: OrderedDict() for kind in ("responses", "files", "batches", "jobs", "videos")
        }
        started = f"{int(time.time() * 1000):x}"
        self._ids = (f"{started}o{number}" for number in itertools.count(1))

    def middlewares(self) -> list[Any]:
        """To give to `web.Application`."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answer(request) or await handler(request)

        return [answer]

    async def _answer(self, request: web.Request) -> web.StreamResponse | None:
        parts = request.path.removeprefix("/v1").strip("/").split("/")
        try:
            match request.method, parts:
                case "POST", ["responses"]:
                    return await self._background(request)
                case "GET", ["responses", response_id]:
                    return self._read("responses", response_id, is_only_known=True)
                case "POST", ["responses", response_id, "cancel"]:
                    return self._cancel("responses", response_id)
                case "POST", ["files"]:
                    return await self._upload(request)
                case "GET", ["files", file_id]:
                    return self._file(file_id)
                case "GET", ["files", file_id, "content"]:
                    return self._content(file_id)
                case "POST", ["batches"]:
                    return self._batch(await request.json())
                case "GET", ["batches", batch_id]:
                    return self._read("batches", batch_id)
                case "GET", ["batches"]:
                    return self._list("batches")
                case "POST", ["batches", batch_id, "cancel"]:
                    return self._cancel("batches", batch_id)
                case "POST", ["fine_tuning", "jobs"]:
                    return self._job(await request.json())
                case "GET", ["fine_tuning", "jobs", job_id]:
                    return self._read("jobs", job_id)
                case "POST", ["fine_tuning", "jobs", job_id, "cancel"]:
                    return self._cancel("jobs", job_id)
                case "POST", ["videos"]:
                    return self._video(await _fields(request))
                case "GET", ["videos", video_id]:
                    return self._read("videos", video_id)
                case "GET", ["videos", video_id, "content"] if video_id in self._kept["videos"]:
                    return web.Response(body=b"a film", content_type="video/mp4")
        except (ValueError, KeyError, AttributeError, TypeError, BadDirectiveError) as error:
            return _error(400, f"bad request: {error!r}")
        return None

    async def _background(self, request: web.Request) -> web.StreamResponse | None:
        body = json.loads(await request.read())
        if not isinstance(body, dict) or body.get("background") is not True:
            return None
        plan = plan_chat(body)
        if plan.status != 200:
            return None
        reply = Reply(plan, f"resp_{next(self._ids)}", int(time.time()), str(body.get("model", "")))
        metadata: Body = body.get("metadata") or {}
        told: Body = {"background": True, "metadata": metadata}
        ends = metadata.get("ends", "completed")
        after = shapes.response(reply, "completed") | told | {"status": ends}
        before = shapes.response(reply, "queued") | told
        kept = self._keep("responses", reply.id, _Kept(before, after, _reads(metadata)))
        self._bill(reply.plan, reply.id, request.path, reply.model, body.get("user"))
        if not body.get("stream"):
            return web.json_response(kept.before)
        kept.reads = 0
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for name, event in shapes.response_events(reply):
            if isinstance(event, dict) and "response" in event:
                event["response"] |= told
            if reply.plan.chunk_delay_ms:
                await asyncio.sleep(reply.plan.chunk_delay_ms / 1000)
            await answer.write(f"event: {name}\ndata: {json.dumps(event)}\n\n".encode())
        await answer.write_eof()
        return answer

    async def _upload(self, request: web.Request) -> web.Response:
        fields = await _fields(request)
        return web.json_response(self._put_file(fields["file"], fields.get("purpose", "batch")))

    def _put_file(self, content: bytes, purpose: str) -> Body:
        told: Body = {
            "id": f"file-{next(self._ids)}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": "lines.jsonl",
            "purpose": purpose,
            "status": "processed",
        }
        self._keep("files", told["id"], (told, content))
        return told

    def _file(self, file_id: str) -> web.Response:
        found = self._kept["files"].get(file_id)
        return _error(404, "no such file") if found is None else web.json_response(found[0])

    def _content(self, file_id: str) -> web.Response:
        found = self._kept["files"].get(file_id)
        if found is None:
            return _error(404, "no such file")
        return web.Response(body=found[1], content_type="application/jsonl")

    def _batch(self, body: Body) -> web.Response:
        lines = [
            json.loads(line) for line in self._kept["files"][body["input_file_id"]][1].splitlines() if line
        ]
        batch_id, metadata = f"batch_{next(self._ids)}", body.get("metadata") or {}
        ends = metadata.get("ends", "completed")
        done = lines if ends == "completed" else lines[:1]
        output = self._put_file(b"\n".join(self._line(batch_id, line) for line in done), "batch_output")
        counts = {"total": len(lines), "completed": len(done), "failed": len(lines) - len(done)}
        before: Body = {
            "id": batch_id,
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": body.get("completion_window", "24h"),
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": metadata,
        }
        after = before | {
            "status": ends,
            "output_file_id": output["id"] if done else None,
            f"{ends}_at": int(time.time()),
            "request_counts": counts,
        }
        return web.json_response(
            self._keep("batches", batch_id, _Kept(before, after, _reads(metadata))).before
        )

    def _line(self, batch_id: str, line: Body) -> bytes:
        request = line["body"]
        reply = Reply(
            plan_chat(request), f"chatcmpl-{next(self._ids)}", int(time.time()), str(request.get("model", ""))
        )
        self._bill(reply.plan, batch_id, "/v1/batches", reply.model, request.get("user"))
        answer = {"status_code": 200, "request_id": reply.id, "body": shapes.chat(reply)}
        told = {"id": reply.id, "custom_id": line.get("custom_id"), "response": answer, "error": None}
        return json.dumps(told).encode()

    def _job(self, body: Body) -> web.Response:
        job_id, metadata = f"ftjob-{next(self._ids)}", body.get("metadata") or {}
        before: Body = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "fine_tuned_model": None,
            "finished_at": None,
            "hyperparameters": {"n_epochs": 1},
            "model": body["model"],
            "organization_id": "org",
            "result_files": [],
            "seed": 0,
            "status": "queued",
            "trained_tokens": None,
            "training_file": body["training_file"],
            "validation_file": None,
            "error": None,
        }
        after = before | {
            "status": {"completed": "succeeded"}.get(metadata.get("ends", "completed"), metadata.get("ends")),
            "trained_tokens": int(metadata.get("trained", "1000")),
            "finished_at": int(time.time()),
        }
        plan = replace(_NO_USAGE, input_tokens=after["trained_tokens"])
        self._bill(plan, job_id, "/v1/fine_tuning/jobs", body["model"], None)
        return web.json_response(self._keep("jobs", job_id, _Kept(before, after, _reads(metadata))).before)

    def _video(self, fields: Mapping[str, Any]) -> web.Response:
        video_id = f"video_{next(self._ids)}"
        before: Body = {
            "id": video_id,
            "object": "video",
            "created_at": int(time.time()),
            "status": "queued",
            "model": fields.get("model", "sora-2"),
            "progress": 0,
            "seconds": str(fields.get("seconds", "4")),
            "size": fields.get("size", "720x1280"),
        }
        after = before | {"status": "completed", "progress": 100, "completed_at": int(time.time())}
        self._bill(_NO_USAGE, video_id, "/v1/videos", before["model"], None)
        return web.json_response(self._keep("videos", video_id, _Kept(before, after, 0)).before)

    def _keep(self, kind: str, object_id: str, kept: Any) -> Any:
        self._kept[kind][object_id] = kept
        while len(self._kept[kind]) > MAX_KEPT:
            self._kept[kind].popitem(last=False)
        return kept

    def _read(self, kind: str, object_id: str, *, is_only_known: bool = False) -> web.Response | None:
        kept = self._kept[kind].get(object_id)
        if kept is None:
            return None if is_only_known else _error(404, f"no such object: {object_id}")
        return web.json_response(kept.read())

    def _list(self, kind: str) -> web.Response:
        data = [kept.read() for kept in self._kept[kind].values()]
        return web.json_response({"object": "list", "data": data, "has_more": False})

    def _cancel(self, kind: str, object_id: str) -> web.Response:
        kept = self._kept[kind].get(object_id)
        if kept is None:
            return _error(404, f"no such object: {object_id}")
        kept.reads, kept.after = 0, kept.after | {"status": "cancelled"}
        return web.json_response(kept.after)

    def _bill(self, plan: AnswerPlan, object_id: str, path: str, model: str, user: object) -> None:
        self._served.record(
            plan,
            "served",
            id=object_id,
            path=path,
            model=model,
            user=user if isinstance(user, str) else None,
            streamed=False,
            chunks_written=0,
        )


def _reads(metadata: Mapping[str, Any]) -> int:
    return int(metadata.get("reads", "0"))


async def _fields(request: web.Request) -> dict[str, Any]:
    """A form or a JSON object; files as bytes."""
    if request.content_type == "application/json":
        return dict(await request.json())
    given: dict[str, Any] = {}
    for name, value in (await request.post()).items():
        given[name] = value.file.read() if isinstance(value, web.FileField) else value
    return given


def _error(status: int, message: str) -> web.Response:
    body = {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": str(status)}
    }
    return web.json_response(body, status=status)
