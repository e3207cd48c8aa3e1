"""Edits by model and by rule, and their contract."""
