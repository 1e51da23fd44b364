"""Recipes that run in seconds."""

TINY = """\
version: 1
name: tiny
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic}
model: {uses: model.mlp, with: {hidden: [20, 20]}}
variants: {real: {}, fake: {data: {with: {labels: random}}}}
stages:
  train: {uses: train.supervised, with: {epochs: 10, batch_size: 64, optimizer: {name: adam, lr: 0.01}}}
  blog: {uses: shrink.noise, needs: train, repeat: 2, feed: original,
         with: {width: 0.5, redraw: round, images: 256, labels: hard, teacher: train, epochs: 2}}
  prune: {uses: prune.magnitude, needs: train, sweep: {with.sparsity: [0.5, 0.9]}}
evaluate: [eval.accuracy, eval.size, eval.fidelity]
report: [report.twins]
profiles:
  quick:
    data: {with: {train: 128}}
    stages: {blog: null, prune: null, train: {with: {epochs: 2}}}
    evaluate: [eval.accuracy, eval.latency]
    report: []
"""

# Both stages train long enough to be met in the middle.
LONG = """\
version: 1
name: long
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic}
model: {uses: model.mlp, with: {hidden: [64, 64]}}
stages:
  train: {uses: train.supervised, with: {epochs: 200, batch_size: 16, optimizer: {momentum: 0.9}}}
  noise: {uses: shrink.noise, needs: train,
          with: {width: 0.5, noise: covariance, images: 512, epochs: 200, batch_size: 16, teacher: train,
                 optimizer: {name: adam, lr: 0.001}}}
evaluate: [eval.accuracy, eval.fidelity]
"""
