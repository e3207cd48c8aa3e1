"""The one exception every reader raises, so that a caller can report a bad file and go on."""


class UnreadableScore(ValueError):
    """A file that is not music we can hold. The message says what is wrong and what to do."""
