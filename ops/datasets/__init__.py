"""Data sets as catalogue items and events in time order, whatever their files look like."""

from ops.datasets.base import Dataset, DatasetError
from ops.datasets.detection import default_folder, detect

__all__ = ["Dataset", "DatasetError", "default_folder", "detect"]
