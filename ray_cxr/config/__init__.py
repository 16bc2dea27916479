"""Settings: one YAML file and dotted overrides in, validated and frozen objects out."""

from ray_cxr.config.base import Settings
from ray_cxr.config.load import read_settings, to_yaml

__all__ = ["Settings", "read_settings", "to_yaml"]
