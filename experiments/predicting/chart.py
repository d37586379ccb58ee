"""One scan's predictions as a drawing: a line an input, a dot a fold, the mean and the threshold marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from experiments.predicting.records import ClassPrediction, InputOutcome, NumberPrediction
from experiments.rendering.palette import INK, RULE, SOFT, VARIABLES, color_of
from experiments.runtime.words import rounded

ROW, TOP, BOTTOM, SIDE = 44, 6, 26, 10
WIDE, NARROW = 620, 340


def chart(outcomes: Sequence[InputOutcome], names: Sequence[str], width: int) -> bytes:
    """SVG bytes of all predictions of one scan.

    Args:
        outcomes: The scan's inputs, those without a prediction among them.
        names: All inputs, which gives each its colour.
        width: Of the drawing, in pixels.
    """
    low, high = _ends(outcomes)
    scale = (width - 2 * SIDE) / ((high - low) or 1.0)
    height = TOP + ROW * len(outcomes) + BOTTOM
    rows = "".join(
        _row(outcome, VARIABLES[color_of(outcome.input, names)], TOP + ROW * place, width, low, scale)
        for place, outcome in enumerate(outcomes)
    )
    marks = "".join(
        _text(SIDE + (value - low) * scale, height - 6, rounded(value, 6), SOFT, anchor)
        for value, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end"))
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{rows}{marks}</svg>'.encode()


def _ends(outcomes: Sequence[InputOutcome]) -> tuple[float, float]:
    """0 to 1 for probabilities, else what holds all numbers and finite intervals, rounded outwards."""
    numbers = [each.prediction for each in outcomes if isinstance(each.prediction, NumberPrediction)]
    if not numbers:
        return 0.0, 1.0
    values = np.array([value for each in numbers for value in (*each.folds, each.low, each.high)])
    values = values[np.isfinite(values)]
    step = 10 ** np.floor(np.log10(float(np.ptp(values)) or float(np.abs(values).max()) or 1.0))
    return float(np.floor(values.min() / step) * step), float(np.ceil(values.max() / step) * step)


def _row(outcome: InputOutcome, variable: str, top: float, width: int, low: float, scale: float) -> str:
    line = top + 31
    axis = f'<line x1="{SIDE}" x2="{width - SIDE}" y1="{line}" y2="{line}" style="stroke:var({VARIABLES[RULE]})"/>'
    name = _text(SIDE, top + 15, outcome.input.replace("_", " "), INK, "start")
    prediction = outcome.prediction
    if prediction is None:
        return axis + name + _text(width - SIDE, top + 15, "not predicted", SOFT, "end")

    def place(value: float) -> float:
        return round(SIDE + (value - low) * scale, 1)

    dots = "".join(f'<circle cx="{place(value)}" cy="{line}" r="4" style="fill:var({variable});opacity:.35"/>'
                   for value in prediction.folds)  # fmt: skip
    if isinstance(prediction, ClassPrediction):
        value, said = prediction.probability, f"{prediction.probability:.2f}, {prediction.label_set}"
        more = f'<line x1="{place(prediction.threshold)}" x2="{place(prediction.threshold)}" y1="{line - 9}" y2="{line + 9}"'
        more += f' style="stroke:var({VARIABLES[INK]});stroke-width:1.5"/>'
    else:
        value, said = prediction.number, prediction.shown(prediction.number)
        more = _interval(prediction, place, line, variable)
    mean = (
        f'<circle cx="{place(value)}" cy="{line}" r="6.5" style="fill:var({variable});stroke:var(--paper);stroke-width:1.5"/>'
    )
    return axis + more + dots + mean + name + _text(width - SIDE, top + 15, said, INK, "end")


def _interval(prediction: NumberPrediction, place: Callable[[float], float], line: float, variable: str) -> str:
    if not np.isfinite([prediction.low, prediction.high]).all():
        return ""
    low, high = place(prediction.low), place(prediction.high)
    style = f"stroke:var({variable});stroke-width:4;opacity:.5"
    return f'<line x1="{low}" x2="{high}" y1="{line}" y2="{line}" style="{style}"/>'


def _text(x: float, y: float, text: str, color: str, anchor: str) -> str:
    style = f"fill:var({VARIABLES[color]});font-size:14px"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{escape(text)}</text>'
