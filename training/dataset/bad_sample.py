"""What a reader raises for a sample that it cannot use."""


class BadSample(ValueError):
    """A sample that cannot be used; the message is the reason under which it is counted."""
