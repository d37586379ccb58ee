"""The error of this package."""


class ExternalError(ValueError):
    """An external cohort that cannot be scored as it is, or a freeze that was touched."""
