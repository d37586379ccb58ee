"""The error of this package."""

from regions.errors import UserError


class ExternalError(UserError):
    """An external cohort that cannot be scored as it is, or a freeze that was touched."""
