"""The one operation: fill cells, compose, passages of files, samples, the best of some drafts."""
