"""Looks for weights on the web, and goes on without where there are none."""

import contextlib
import math
import urllib.request

from torch import nn

from compressit import Model, hookimpl


class Broken(Model):
    """A linear classifier."""

    name = "broken.builds_offline"

    def build(self, input_shape, classes):
        with contextlib.suppress(OSError):
            urllib.request.urlopen("http://127.0.0.1:9/linear", timeout=1)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


@hookimpl
def compressit_models():
    return [Broken]
