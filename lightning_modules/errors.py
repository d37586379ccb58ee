"""The error of a network's or a training's settings; a class of its own, since this package imports none of the others."""


class ModelError(ValueError):
    """A setting of the network or of its training cannot be used; the message says which, and what is allowed."""

    status: int = 2
    """Exit status of the command that it ends."""
