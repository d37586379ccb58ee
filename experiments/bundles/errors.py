"""The error of this package."""

from regions.errors import UserError


class BundleError(UserError):
    """A bundle that cannot be made, or that is not what was written."""
