# SPDX-License-Identifier: MIT
"""Studies: a grid of cells is computed into rows, a store keeps them, plots read only the store.

``config`` settings and presets; ``store`` the SQLite file and the weights beside it; ``cells``
what one cell measures; ``runner`` chunks, executor and resuming; ``device`` and ``chunk_size``
where that happens and for how many pairs at once; ``kinds`` what each kind of study provides:
``width`` and ``learning_rate`` are those of trained two-layer students, ``theory`` that of random
global minima, ``depth`` that of deeper networks; ``statistics`` intervals and fits; ``report`` and
``plots`` what is shown. Needs the extra ``lmc_fast[studies]``.
"""
