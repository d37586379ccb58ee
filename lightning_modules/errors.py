"""The error of a network's or a training's settings; a class of its own, since this package imports none of the others."""


class ModelError(ValueError):
    """A setting of the network or of its training cannot be used; the message says which, and what is allowed."""

    status: int = 2
    """Exit status of the command that it ends."""


class TrainingError(ModelError):
    """A training that ended without a network whose predictions mean anything; the message names no file and no patient."""

    status = 1
