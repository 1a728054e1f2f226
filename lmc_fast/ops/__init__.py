# SPDX-License-Identifier: MIT
"""The native ops: per file the public function, its fake kernel and its autograd, in that order."""
