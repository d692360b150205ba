"""Preferans: recipes that tune small open language models to Russian preferences on a small card."""

__version__ = "0.1.0"
