# SPDX-License-Identifier: MIT
"""A study of your own: a loop over widths, an ensemble at each, and a table of mean barriers."""

import lmc_fast

D, M, PAIRS = 10, 5, 8
teacher = lmc_fast.teacher(d=D, M=M)

print(f"teacher with M = {M} neurons, {PAIRS} pairs of students per width")
print("  m    naive   weights       gap    alive")
for m in (5, 7, 10, 20, 40):
    # All students of a width are trained in one call, each from its own seed.
    start = lmc_fast.init_students(range(2 * PAIRS), m=m, d=D)
    students = lmc_fast.train_ensemble(start.w1, lr=4 / m, steps=1000, teacher=teacher)
    if students.diverged.any():
        raise SystemExit(f"{int(students.diverged.sum())} students diverged: use a smaller lr")
    a, b = students.w1[:PAIRS], students.w1[PAIRS:]

    naive = lmc_fast.barrier(a, b, teacher=teacher).height.mean()
    heights = []
    for cost in ("weights", "gap"):
        matching = lmc_fast.match(a, b, cost=cost)
        heights.append(lmc_fast.barrier(a, b, teacher=teacher, match=matching).height.mean())
    alive = lmc_fast.alive_count(students.w1).double().mean()
    print(f"{m:3d} {naive:8.4f} {heights[0]:9.5f} {heights[1]:9.5f} {alive:8.1f}")
