"""Vectors, the catalogue, its index, the recommender."""
