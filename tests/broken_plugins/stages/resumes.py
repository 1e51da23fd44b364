"""Saves weights and epoch, but not the optimizer's momentum."""

import torch
from torch import nn

from compressit import Compressor, hookimpl


class Broken(Compressor):
    """Three steps of training."""

    name = "broken.resumes"

    def compress(self, model, ctx):
        inputs, labels = ctx.data.train.tensors()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        first = 0
        if (saved := ctx.progress.load()) is not None:
            model.load_state_dict(saved[0])
            first = saved[1]["epoch"]
        for epoch in range(first, 3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            if epoch < 2 and ctx.progress.due():
                ctx.progress.save(model.state_dict(), {"epoch": epoch + 1})
        optimizer.zero_grad()
        return model


@hookimpl
def compressit_compressors():
    return [Broken]
