# SPDX-License-Identifier: MIT
"""train_ensemble on a GPU: ``driver`` cuts ensembles into groups and chooses how they are trained.

``fused`` lets the kernels take many steps per launch, a student to a block. ``stepwise`` trains
students too large for that with whole-GPU calls for every step (``objectives`` has their losses and
gradients); it is written in torch and runs on any device. ``chunks`` bounds the work between two
waits for the device, ``memory`` the size of a group.
"""
