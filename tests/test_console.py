"""Names of a user's, with brackets in them, are printed as they stand."""

from __future__ import annotations

import pytest
from rich.table import Table

from experiments.runtime.console import plain_console, print_failure, print_note, print_table

ODD = "lesions [ml], relapses [/year] [red]"


def test_texts_are_printed_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    console = plain_console()
    console.print(ODD)
    print_note(console, ODD)
    print_failure(console, ODD)
    assert capsys.readouterr().out == f"{ODD}\nnote: {ODD}\nfailed {ODD}\n"


def test_a_table_is_printed_whole_and_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=ODD)
    table.add_column(ODD, no_wrap=True)
    table.add_row(f"{ODD} {'x' * 200} end")
    print_table(plain_console(), table)
    told = capsys.readouterr().out
    assert told.count(ODD) == 3
    assert f"{'x' * 200} end" in told
