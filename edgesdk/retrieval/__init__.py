"""Texts of the user's own: an index of them, and when and what of it a model is given (docs/retrieval.md)."""
