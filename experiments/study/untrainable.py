"""What cannot be trained whatever the scans are: told before a scan is read, and before a job is submitted."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.study.settings import Settings
from experiments.study.sides import refuse_one_sided


def refuse_untrainable(settings: Settings, inputs: Iterable[str]) -> None:
    """Refuse one-sided inputs of mirrored scans, and classes that refuse their arguments; each input's network is made once.

    Raises:
        SettingsError: naming the input, or the class and what it says.
    """
    names = list(dict.fromkeys(inputs))
    refuse_one_sided(settings, names)
    for images in {settings.regions[name].images for name in names}:
        settings.instantiated(images)
