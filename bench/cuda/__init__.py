# SPDX-License-Identifier: MIT
"""Times the ops on a GPU: python -m bench.cuda."""
