"""A small W&B server for tests: in memory, on loopback, standard library only, written for wandb 0.31.

It speaks as much of the protocol as this project uses: runs, their streams of rows, files, artifacts, resume, grid
sweeps, saved views. Two rules keep it useful:
    - every request is answered at once: a client retries a dropped connection or a 5xx for minutes;
    - what the stub does not know is answered with 400 and noted in `unknown`, which tests assert to be empty.

`python wandb_stub.py PORT` serves it from a process of its own, so that a test can kill the server.
"""

import gzip
import itertools
import json
import re
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from wandb_stub_records import TEAM, TIME, Artifact, Run, bucket, membership, project

API_KEY = "0" * 40
_OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")
_UPSERT_FIELDS = {
    "groupName": "group", "jobType": "job_type", "displayName": "name", "tags": "tags", "sweep": "sweep",
    "host": "host", "program": "program", "repo": "repo", "commit": "commit",
}  # fmt: skip


class WandbStub:
    """The server; a context manager.

    Args:
        port: 0 for a free one.
        fail: operation name (`Viewer`, `UpsertBucket`, ..., or `file_stream`) -> HTTP status to answer with, or None.
        flags: the account's flags, e.g. `{"code_saving_enabled": True}`.
    """

    def __init__(
        self,
        port: int = 0,
        fail: Callable[[str], int | None] = lambda operation: None,
        flags: dict[str, Any] | None = None,
    ) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.uploads: dict[str, bytes] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, bytes]] = []
        self.unknown: list[tuple[str, str]] = []
        self.fail, self.flags = fail, flags or {}
        self._lock = threading.RLock()
        self._server = _QuietServer(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "WandbStub":
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Answer until closed."""
        self._server.serve_forever(poll_interval=0.05)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY}

    @property
    def bytes_received(self) -> bytes:
        """Every path and body that any client sent."""
        return b"\n".join(part for _, path, body in self.requests for part in (path.encode(), body))

    # HTTP

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def _answer(self) -> None:
                body, path = _read_body(self), unquote(urlsplit(self.path).path)
                with stub._lock:
                    stub.requests.append((self.command, path, body))
                    status, answer = stub._route(self.command, path, body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

        return Handler

    def _route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/graphql":
            return self._graphql(json.loads(body))
        if match := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path):
            return self._file_stream(*match.groups(), json.loads(body))
        if path.startswith("/upload/"):
            name = path.removeprefix("/upload/")
            if method == "PUT":
                self.uploads[name] = body
                return 200, {}
            if name in self.uploads:
                return 200, self.uploads[name]
        self.unknown.append((f"{method} {path}", ""))
        return 400, {"error": f"the stub does not know {method} {path}"}

    def _file_stream(self, project: str, run_id: str, message: dict[str, Any]) -> tuple[int, Any]:
        if status := self.fail("file_stream"):
            return status, {"error": "as the test asked"}
        run = self._run(project, run_id)
        for name, chunk in (message.get("files") or {}).items():
            lines = run.streams.setdefault(name, {})
            lines.update(enumerate(chunk["content"], start=chunk.get("offset", 0)))
        if message.get("complete"):
            run.state = "failed" if message.get("exitcode") else "finished"
        return 200, {"limits": {}}

    def _graphql(self, request: dict[str, Any]) -> tuple[int, Any]:
        found = _OPERATION.search(request["query"])
        operation = found.group(1) if found else "?"
        if status := self.fail(operation):
            return status, {"errors": [{"message": "as the test asked"}]}
        variables = request.get("variables") or {}
        answer = getattr(self, "_on_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower(), None)
        try:
            if answer is None:
                raise NotImplementedError(operation)
            return 200, {"data": answer(variables.get("input") or variables)}
        except Exception as error:
            self.unknown.append((operation, f"{error!r} for {variables} in {request['query']}"))
            return 400, {"errors": [{"message": f"stub: {operation}: {error!r}"}]}

    # Account

    def _on_viewer(self, v: dict[str, Any]) -> Any:
        teams = {"edges": [{"node": {"name": TEAM}}]}
        return {"viewer": {"id": "u", "entity": TEAM, "username": "u", "name": "u", "email": "", "admin": False,
                           "flags": json.dumps(self.flags), "teams": teams}}  # fmt: skip

    _on_get_viewer = _on_get_default_entity = _on_viewer

    def _on_server_features_query(self, v: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def _on_organization_core_weave_organization_id(self, v: dict[str, Any]) -> Any:
        return {"entity": {"organization": None}}

    # Runs

    def _run(self, project: str, run_id: str) -> Run:
        return self.runs.setdefault(run_id, Run(project, run_id))

    def _on_upsert_bucket(self, v: dict[str, Any]) -> Any:
        inserted = v["name"] not in self.runs
        run = self._run(v.get("project") or "uncategorized", v["name"])
        run.config.update(json.loads(v.get("config") or "{}"))
        run.about.update({mine: v[theirs] for theirs, mine in _UPSERT_FIELDS.items() if v.get(theirs) is not None})
        return {"upsertBucket": {"inserted": inserted, "bucket": bucket(run)}}

    def _on_run_resume_status(self, v: dict[str, Any]) -> Any:
        run = self.runs.get(v["name"])
        return {"model": {**project(v["project"]), "bucket": bucket(run) if run else None}}

    def _on_run_stopped_status(self, v: dict[str, Any]) -> Any:
        return {"project": {"run": {"stopped": False}}}

    def _on_runs(self, v: dict[str, Any]) -> Any:
        wanted = json.loads(v.get("filters") or "{}").get("group")
        found = [run for run in self.runs.values() if run.project == v["project"]]
        edges = [{"node": bucket(run), "cursor": run.id} for run in found
                 if wanted in (None, run.about.get("group"))]  # fmt: skip
        page = {"endCursor": None, "hasNextPage": False}
        return {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False,
                            "runs": {"edges": edges, "totalCount": len(edges), "pageInfo": page}}}  # fmt: skip

    def _on_run(self, v: dict[str, Any]) -> Any:
        run = self.runs.get(v["name"])
        return {"project": {"internalId": "1", "run": bucket(run) if run else None}}

    def _on_run_history_keys(self, v: dict[str, Any]) -> Any:
        return {"project": {"run": {"historyKeys": bucket(self.runs[v["name"]])["historyKeys"]}}}

    def _on_create_run_files(self, v: dict[str, Any]) -> Any:
        self.runs[v["run"]].files += v["files"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    # Artifacts

    def _on_artifact_type(self, v: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def _on_create_artifact(self, v: dict[str, Any]) -> Any:
        name = (v.get("artifactCollectionNames") or [v["artifactCollectionName"]])[0]
        earlier = [artifact for artifact in self.artifacts.values() if artifact.name == name]
        same = [one for one in earlier if one.digest == v["digest"] and one.state == "COMMITTED"]
        if not same:
            new = Artifact(f"a{len(self.artifacts)}", v["projectName"], v.get("runName"), name, v["artifactTypeName"],
                           v["digest"], len(earlier))  # fmt: skip
            self.artifacts[new.id] = new
            same = [new]
        latest = {"latestArtifact": {"id": earlier[-1].id} if earlier else None}
        return {"createArtifact": {"artifact": {"id": same[0].id, "state": same[0].state, "artifactSequence": latest}}}

    def _on_create_artifact_manifest(self, v: dict[str, Any]) -> Any:
        upload = {"uploadUrl": f"{self.url}/upload/{v['artifactID']}/manifest.json", "uploadHeaders": []}
        manifest = {"id": v["artifactID"], "file": {"id": "m", **(upload if v["includeUpload"] else {})}}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _on_create_artifact_files(self, v: dict[str, Any]) -> Any:
        edges = []
        for file in v["artifactFiles"]:
            place = f"{file['artifactID']}/{file['name']}"
            self.artifacts[file["artifactID"]].files.append(place)
            edges.append({"node": {"storagePath": place, "uploadUrl": f"{self.url}/upload/{place}", "uploadHeaders": [],
                                   "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}})  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_commit_artifact(self, v: dict[str, Any]) -> Any:
        artifact = self.artifacts[v["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _on_artifact_membership_by_name(self, v: dict[str, Any]) -> Any:
        name = v["name"].split(":")[0]
        found = [one for one in self.artifacts.values() if one.name == name and one.state == "COMMITTED"]
        return {"project": {"artifactCollectionMembership": membership(found[-1]) if found else None}}

    # Saved views (workspaces)

    def _on_upsert_view2(self, v: dict[str, Any]) -> Any:
        inserted = v["name"] not in self.views
        self.views[v["name"]] = {"id": f"v{len(self.views)}", "displayName": v["displayName"], "spec": v["spec"]}
        return {"upsertView": {"inserted": inserted, "view": {"id": self.views[v["name"]]["id"], "name": v["name"]}}}

    def _on_view(self, v: dict[str, Any]) -> Any:
        view = self.views.get(v["viewName"])
        return {"project": {"allViews": {"edges": [{"node": view}] if view else []}}}

    # Sweeps: a grid is a queue that agents empty

    def _on_upsert_sweep(self, v: dict[str, Any]) -> Any:
        values = {name: entry["values"] for name, entry in yaml.safe_load(v["config"])["parameters"].items()}
        grid = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = {"config": v["config"], "queue": grid, "given": []}
        return {"upsertSweep": {"sweep": {"name": name, "project": project(v["projectName"])},
                                "configValidationWarnings": []}}  # fmt: skip

    def _on_sweep(self, v: dict[str, Any]) -> Any:
        name = v.get("sweep") or v["name"]
        return {"project": {"sweep": {
            "id": name, "name": name, "method": "grid", "state": "RUNNING", "description": None, "controller": None,
            "config": self.sweeps[name]["config"], "createdAt": TIME, "heartbeatAt": TIME, "updatedAt": TIME,
            "earlyStopJobRunning": False, "scheduler": None, "runs": {"edges": []},
        }}}  # fmt: skip

    _on_sweep_with_runs = _on_sweep

    def _on_create_agent(self, v: dict[str, Any]) -> Any:
        return {"createAgent": {"agent": {"id": f"{v['sweep'].split('/')[-1]}/{len(self.requests)}"}}}

    def _on_heartbeat(self, v: dict[str, Any]) -> Any:
        sweep = self.sweeps[v["id"].split("/")[0]]
        commands: list[dict[str, Any]] = []
        if not json.loads(v.get("runState") or "{}"):
            commands = [self._next_job(sweep, v["id"]) if sweep["queue"] else {"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": v["id"]}, "commands": json.dumps(commands)}}

    def _next_job(self, sweep: dict[str, Any], agent: str) -> dict[str, Any]:
        values, run_id = sweep["queue"].pop(0), f"job{len(sweep['given'])}"
        sweep["given"].append((agent, values))
        arguments = {name: {"value": value} for name, value in values.items()}
        return {"type": "run", "run_id": run_id, "run_storage_id": run_id, "program": "", "args": arguments}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that vanish are normal here."""


def _read_body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") == "chunked":
        body = b""
        while size := int(request.rfile.readline(), 16):
            body += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
    else:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    return gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body


if __name__ == "__main__":
    WandbStub(int(sys.argv[1])).serve()
