"""Files in: one file a format."""
