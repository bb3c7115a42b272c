"""Predict, simulate and check how robust and fair a learned image representation will be."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rafmodel")
except PackageNotFoundError:  # run from a bare checkout
    __version__ = "0+unknown"
