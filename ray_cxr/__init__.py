"""Train, search and test chest X-ray classifiers on Ray, with patient-safe splits."""

__version__ = "0.1.0"
