"""Rows of cold queries: nothing cached, every GET of the object store takes its latency."""
from common import Row, Skip


def cold(bench):
    raise Skip("the engine has no simulated object store yet")
