"""Backbones and heads, written with `keras` and `keras.ops` only: any backend runs them."""

import imetlib.quiet  # noqa: F401  before the first import of keras
