"""Errors of this package that light code wants to catch without loading torch."""


class BundleError(ValueError):
    """A bundle is missing, incomplete or changed; the message says which file."""
