# SPDX-License-Identifier: MIT
"""What each study asks, in a paragraph."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import StudyName

TITLES: Mapping[StudyName, str] = {
    "width": "The loss barrier modulo permutation against width",
    "learning-rate": "Sparsity and barrier against the learning rate",
    "theory": "The barrier between random global minima",
    "depth": "The loss barrier modulo permutation in deeper networks",
}

QUESTIONS: Mapping[StudyName, str] = {
    "width": (
        "Two networks trained from different seeds usually cannot be averaged: on the straight "
        "line between their weights the loss rises, by the loss barrier. Part of it is only the "
        "order of the neurons, which can be permuted without changing the function. How large is "
        "the barrier that remains once the neurons of one network are matched with those of the "
        "other, and how does it change with the width m of the networks?"
    ),
    "learning-rate": (
        "At large learning rates training leaves fewer neurons alive. How many are left, and how "
        "large is the loss barrier between two networks once their neurons are matched, as the "
        "learning rate rises to the step size at which training diverges? That divergence "
        "threshold is found first, and learning rates are given as multiples of it."
    ),
    "theory": (
        "The global minima of a student that learns from an orthonormal teacher are known: every "
        "neuron points along a teacher's neuron, or is dead. For two minima drawn at random, how "
        "large is the loss barrier after matching their neurons by type, how does it fall with "
        "the width m, and how often does some permutation remove it altogether? Nothing is "
        "trained. r is the probability that a neuron is dead."
    ),
    "depth": (
        "Does the loss barrier that remains after matching fall with the width in networks of more "
        "than one hidden layer? Networks of one to four hidden layers of m neurons, and a small "
        "convolutional network of m / 4 channels, are trained on images in pairs from different "
        "seeds. The units of each pair are matched layer by layer, by the inner product of their "
        "weights, and the loss is measured on the straight line between the two."
    ),
}
