"""Settings as YAML files; ``PRESET=name`` takes ``name.yaml``."""
