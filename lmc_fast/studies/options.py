# SPDX-License-Identifier: MIT
"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .config import DataName
from .presets import PresetName

DataOption = Annotated[
    DataName | None,
    typer.Option(
        help="What students learn: a **teacher** in closed form (default; **digits** for the depth "
        "study), scikit-learn's 8x8 **digits**, or **mnist**.",
        show_default=False,
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the four MNIST files; without it $LMC_FAST_DATA, then the user's cache.",
        show_default=False,
    ),
]
FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Results folder that 'lmc-fast study' wrote.")
]
AnyFolderArgument = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder that 'lmc-fast study' or 'lmc-fast compare' wrote."),
]


PresetOption = Annotated[
    PresetName,
    typer.Option(help="**quick**: a minute or two. **full**: for a paper. **gpu**: MNIST, larger."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file laid over the preset; --print-config shows every setting.",
        show_default=False,
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, laid over preset and file, such as **pairs=128**, "
        "**widths=[4,8,16]**, **problem.d=20** or **tail_from=none**; may be repeated.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Cores to use; default all.", show_default=False),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="cpu|cuda|cuda:N|auto",
        help="Where to train and measure; **auto** is a GPU where torch sees one and this "
        "build has CUDA kernels, else the CPU. Rows name theirs; another may finish a study.",
    ),
]
ChunkOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Pairs trained in one call, and lost by a kill at the most; default 16, for "
        "**depth** fewer, on a GPU what its memory takes.",
        show_default=False,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="List the cells, those already finished, and the preset's time; stop."
    ),
]
