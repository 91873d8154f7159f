"""A picture of tables of agreement: one panel a table, a coloured cell with its value for each row and column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wav2small.errors import Wav2SmallError
from wav2small.evaluation.plots import check_drawable
from wav2small.files import whole_file

Table = Mapping[tuple[str, str], float]
"""Values from 0 to 1 by row and column; below 0 they have the colour of 0."""


def heat_map(panels: Mapping[str, Table], path: str | Path, label: str = "CCC") -> None:
    """Write the picture, whole or not at all; its suffix determines the format.

    Args:
        panels: tables by their title; rows and columns are in order of appearance, a missing value is an empty cell
        path: PNG, SVG or PDF
        label: of the colours

    Raises:
        Wav2SmallError: if the suffix is not that of a picture, or no table is given
        MissingExtraError: if matplotlib is not installed
    """
    check_drawable(path)
    if not panels:
        raise Wav2SmallError(f"{path}: there is nothing to draw, as no statistic has a value.")
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(row for table in panels.values() for row, _ in table))
    widths = [len({column for _, column in table}) for table in panels.values()]
    size = 2.5 + 0.5 * sum(widths), 2 + 0.24 * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=widths)[0]
    for one, (title, table) in zip(axes, panels.items(), strict=True):
        columns = list(dict.fromkeys(column for _, column in table))
        grid = [[table.get((row, column), float("nan")) for column in columns] for row in rows]
        image = one.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        one.set_title(title, fontsize="medium")
        one.set_xticks(range(len(columns)), columns, rotation=90, fontsize="small")
        one.set_yticks(range(len(rows)), rows, fontsize="small")
        for (row, column), value in table.items():
            place = columns.index(column), rows.index(row)
            text = f"{value:.2f}".replace("0.", ".", 1)
            colour = "black" if value > 0.6 else "white"
            one.text(*place, text, ha="center", va="center", color=colour, fontsize="x-small")
    figure.colorbar(image, ax=axes, shrink=0.5, label=label)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
