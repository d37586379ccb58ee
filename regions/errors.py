"""The error that a user can fix; the command line prints it on one line, without a traceback."""


class UserError(ValueError):
    """Something that a user gave cannot be used; the message says what, what is allowed and what to do next.

    The base class of all errors of the packages on this one.
    """

    status: int = 2
    """Exit status of the command that it ends."""
