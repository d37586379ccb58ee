"""The study's W&B workspace as code.

Needs the optional package wandb-workspaces. Bars and curves show mean and standard deviation over folds; that is a
description, the tests are in the `compare` run and in comparison.tsv.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from experiments.tracking.options import TrackingError, TrackingOptions
from experiments.tracking.session import server_access

RESULTS = ("test/auroc", "test/balanced_accuracy", "test/sensitivity", "test/specificity")
CURVES = ("tuning/auroc", "tuning/balanced_accuracy", "tuning/loss", "train/loss")
THROUGHPUT = "throughput/scans_per_second"


@dataclass(frozen=True)
class Dashboard:
    """What `dashboard` made."""

    file: Path
    """The workspace as JSON."""
    url: str | None
    """Where W&B shows it; None when it was not saved there."""


def dashboard(study: str, folder: Path, options: TrackingOptions) -> Dashboard:
    """Write the workspace of a study to dashboard.json and, where an API key is configured, save it in W&B.

    Args:
        study: name of the study.
        folder: the study folder.
        options: project and entity. With mode offline and no key only the file is written.

    Raises:
        TrackingError: if wandb-workspaces is not installed, or the server does not take the workspace.
    """
    api = server_access(folder) if options.mode != "disabled" else None
    entity = options.entity or (api.default_entity if api is not None else None) or "entity"
    workspace = build_workspace(study, options.project, entity)
    file = folder / "dashboard.json"
    draft = file.with_suffix(".json.part")
    draft.write_text(json.dumps(workspace_values(workspace), indent=2, sort_keys=True) + "\n")
    draft.replace(file)
    if api is None:
        return Dashboard(file, None)
    try:
        workspace.save()
    except Exception as error:  # the package raises what its HTTP client raises
        raise TrackingError(f"W&B did not take the workspace: {error}; it is in {file}") from error
    return Dashboard(file, workspace.url)


def build_workspace(study: str, project: str, entity: str) -> Any:
    """Describe the workspace; needs neither a key nor a server.

    Raises:
        TrackingError: if wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError as error:
        raise TrackingError('the dashboard needs one more package: pip install "wandb-workspaces<0.5"') from error
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"regionwise: {study}",
        sections=[
            ws.Section(name="Inputs compared", panels=_comparison_panels(), is_open=True),
            ws.Section(name="ROC", panels=[_roc_panel()], is_open=True),
            ws.Section(name="Learning curves", panels=_curve_panels(), is_open=True),
            ws.Section(name="Throughput", panels=_throughput_panels(), is_open=False),
            ws.Section(name="Tables", panels=_table_panels(), is_open=False),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch"),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config("input")],
            filters=[ws.Config("kind") == "fold", ws.Config("study") == study],
            pinned_columns=["run:displayName", "config:input", "config:fold", *(f"summary:{key}" for key in RESULTS)],
        ),
    )


def workspace_values(workspace: Any) -> dict[str, Any]:
    """Return the workspace as plain values, without the random ids of its panels."""
    values = json.loads(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return cast(dict[str, Any], _without_ids(values))


def _comparison_panels() -> list[Any]:
    """Mean and standard deviation of each result by input, then every fold as a point."""
    import wandb_workspaces.reports.v2 as wr

    bars = [wr.BarPlot(title=f"{key} (mean, SD over folds)", metrics=[wr.SummaryMetric(key)], **_by_input()) for key in RESULTS]
    points = [wr.ScatterPlot(title=f"{key} by fold", x=wr.Config("fold"), y=wr.SummaryMetric(key)) for key in RESULTS[:2]]
    shown: list[Any] = [wr.Config("input"), wr.Config("fold"), *(wr.SummaryMetric(key) for key in RESULTS[:2])]
    columns = [wr.ParallelCoordinatesPlotColumn(metric) for metric in shown]
    return [*bars, *points, wr.ParallelCoordinatesPlot(title="Input, fold, result", columns=columns)]


def _roc_panel() -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.CustomChart(
        query={"summaryTable": {"tableKey": "test/roc_table"}},
        chart_name="wandb/line/v0",
        chart_fields={"x": "false_positive_rate", "y": "sensitivity", "stroke": "name"},
        chart_strings={"title": "ROC"},
    )


def _curve_panels() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [wr.LinePlot(title=key, x="epoch", y=[key], **_by_input()) for key in CURVES]


def _throughput_panels() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    curve = wr.LinePlot(title="Scans per second", x="epoch", y=[THROUGHPUT], **_by_input())
    bars = wr.BarPlot(title="Scans per second by input", metrics=[wr.SummaryMetric(THROUGHPUT)], **_by_input())
    return [curve, bars]


def _table_panels() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [wr.WeavePanelSummaryTable(table_name="test/predictions"), wr.RunComparer(diff_only=True)]


def _by_input() -> dict[str, Any]:
    """One bar or curve per input: mean over folds, standard deviation as its range."""
    return {"groupby": "input", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(inner) for key, inner in value.items() if key not in ("id", "__id__")}
    return [_without_ids(inner) for inner in value] if isinstance(value, list) else value
