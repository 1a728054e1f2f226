# SPDX-License-Identifier: MIT
"""Plain torch versions of every native op: the specification the kernels are tested against."""
