"""What the stub of wandb_stub.py remembers, and how GraphQL describes it."""

import json
from dataclasses import dataclass, field
from typing import Any

TEAM = "team"
TIME = "2026-01-01T00:00:00"


@dataclass
class Run:
    """What the server knows about one run."""

    project: str
    id: str
    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    state: str = "running"

    def lines(self, stream: str) -> list[str]:
        """Return the lines of a stream in order; a line that was sent twice counts once."""
        return [line for _, line in sorted(self.streams.get(stream, {}).items())]

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows as logged."""
        return [json.loads(line) for line in self.lines("wandb-history.jsonl")]

    @property
    def summary(self) -> dict[str, Any]:
        """The last value of everything."""
        lines = self.lines("wandb-summary.json")
        return json.loads(lines[-1]) if lines else {}

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration without W&B's own part."""
        return {key: entry["value"] for key, entry in self.config.items() if key != "_wandb"}


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    project: str
    run: str | None
    name: str
    kind: str
    digest: str
    version: int
    state: str = "PENDING"
    files: list[str] = field(default_factory=list)


def bucket(run: Run) -> dict[str, Any]:
    """Describe a run as GraphQL does."""
    tail = {f"{name}Tail": json.dumps(run.lines(f"wandb-{name}.jsonl")[-1:]) for name in ("history", "events")}
    count = {f"{name}LineCount": len(run.lines(f"wandb-{name}.jsonl")) for name in ("history", "events")}
    telemetry = run.config.get("_wandb", {}).get("value", {}).get("t", {})
    return {
        "id": f"b-{run.id}", "projectId": "1", "name": run.id, "displayName": run.about.get("name", run.id),
        "description": "", "notes": "", "config": json.dumps(run.config), "sweepName": run.about.get("sweep"),
        "tags": run.about.get("tags", []), "group": run.about.get("group"), "jobType": run.about.get("job_type"),
        "state": run.state, "commit": None, "readOnly": False, "createdAt": TIME, "heartbeatAt": TIME,
        "summaryMetrics": json.dumps(run.summary), "systemMetrics": "{}", "user": {"name": "u", "username": "u"},
        "historyKeys": {"keys": {}, "lastStep": len(run.history) - 1}, "logLineCount": len(run.lines("output.log")),
        "wandbConfig": json.dumps({"t": telemetry}), "project": project(run.project), **tail, **count,
    }  # fmt: skip


def project(name: str) -> dict[str, Any]:
    """Describe a project as GraphQL does."""
    return {"id": f"p-{name}", "internalId": "1", "name": name, "entity": {"id": "e", "name": TEAM}}


def membership(artifact: Artifact) -> dict[str, Any]:
    """Describe an artifact and the collection that it is in as GraphQL does."""
    collection = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project(artifact.project)}
    alias = {"__typename": "ArtifactAlias", "id": "latest", "alias": "latest", "artifactCollection": collection}
    described = {
        "__typename": "Artifact", "id": artifact.id, "artifactSequence": collection, "versionIndex": artifact.version,
        "artifactType": {"name": artifact.kind}, "description": None, "metadata": "{}", "ttlDurationSeconds": -2,
        "ttlIsInherited": True, "tags": [], "historyStep": None, "state": artifact.state, "size": 0,
        "digest": artifact.digest, "commitHash": artifact.id, "fileCount": len(artifact.files), "createdAt": TIME,
        "updatedAt": TIME, "aliases": [alias],
    }  # fmt: skip
    return {
        "__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": artifact.version, "createdAt": TIME,
        "aliases": [alias], "artifactCollection": collection, "artifact": described,
    }  # fmt: skip
