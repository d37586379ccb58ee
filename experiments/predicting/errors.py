"""The error of this package."""

from regions.errors import UserError


class PredictError(UserError):
    """Scans that cannot be predicted, or bundles that do not go together."""
