"""Settings: one YAML file and dotted overrides in, validated and frozen objects out."""

from ray_cxr.config.base import Settings
from ray_cxr.config.load import dotted, overlaid, read_settings, setting_names, to_yaml, validated

__all__ = ["Settings", "dotted", "overlaid", "read_settings", "setting_names", "to_yaml", "validated"]
