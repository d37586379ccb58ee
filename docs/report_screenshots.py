"""Draw docs/report_desktop.png and docs/report_phone.png: the report of a study as a browser shows it.

Of a study that was explained (make explain) also docs/explaining.png, the chapter about where its networks looked.

    python docs/report_screenshots.py [studies/demo]

Needs a study that was compared (make demo) and Chromium. The report is rebuilt, outside of the study.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from experiments.reporting.build import write_report
from experiments.reporting.sources import read_sources

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from browser import Browser  # noqa: E402 (the tests' browser, found through the path above)

DESKTOP = (1440, 1330)
PHONE = (390, 844)
GAP = 40
EXPLAINED, CROP = (1280, 1425), 350
"""Window of the chapter about where networks looked, and what is cut off at its left, in pixels of the picture."""
TOP = "document.getElementById('{}').getBoundingClientRect().top + scrollY"


def main(study: Path) -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(read_sources(study), Path(folder) / "report").page
        with Browser(Path(folder) / "profile") as browser:
            browser.open(report, *DESKTOP, sharpness=1.25)
            save(part(browser, 0, DESKTOP), HERE / "report_desktop.png")
            if (study / "explain.json").is_file():
                top, width = browser.ask(TOP.format("explain")), EXPLAINED[0]
                browser.open(report, *EXPLAINED, sharpness=1.25)
                save(part(browser, round(top), EXPLAINED).crop((CROP, 0, round(1.25 * width), round(1.25 * EXPLAINED[1]))),
                     HERE / "explaining.png")  # fmt: skip
            phones = []
            for section, dark in (("", False), ("differences", False), ("discrimination", True)):
                browser.open(report, *PHONE, dark=dark, sharpness=1.25)
                phones.append(part(browser, round(browser.ask(TOP.format(section))) if section else 0, PHONE))
    phones = [ImageOps.expand(phone, border=1, fill="#c4cad1") for phone in phones]
    sheet = Image.new("RGB", (sum(phone.width for phone in phones) + GAP * (len(phones) - 1), phones[0].height), "white")
    for number, phone in enumerate(phones):
        sheet.paste(phone, (number * (phone.width + GAP), 0))
    save(sheet, HERE / "report_phone.png")


def part(browser: Browser, top: int, size: tuple[int, int]) -> Image.Image:
    """A window's worth of the page, from a place downwards."""
    return Image.open(io.BytesIO(browser.screenshot((0, top, *size)))).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as small as PNG goes without changing a colour."""
    picture.save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "studies/demo"))
