"""Scores out: pictures."""
