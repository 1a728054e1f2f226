# SPDX-License-Identifier: MIT
"""Benchmarks: `python -m bench` runs them; bench/README.md says how to read them."""
