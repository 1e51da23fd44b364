"""Makes a Plan from a Recipe: every job with its key, inputs first.

Reads the recipe, plugins and file digests. Writes nothing and does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from compressit.contract.job import Job
from compressit.host.plugins import Host
from compressit.planning.dry_run import dry_runs
from compressit.planning.graph import Graph, Whole, machine
from compressit.planning.points import Plan
from compressit.recipe.model import Recipe
from compressit.recipe.names import series_of
from compressit.recipe.references import in_order


def make_plan(recipe: Recipe, host: Host, live: bool = False) -> Plan:
    """Expands the recipe into jobs: variants x seeds x stages x members x rounds. Equal jobs appear once.

    Raises CompressitError if something has become invalid since the recipe was read (a checkpoint no longer fits the
    data), for a plugin file that is not valid Python, and for a plugin that exists only in this process, unless `live`:
    then the plan's workers are forked from this process.
    """
    models = {variant.name: series_of(variant.stages, variant.model.names) for variant in recipe.variants}
    whole = Whole(recipe, host, models, live=live)
    for variant in recipe.variants:
        for seed in recipe.seeds:
            whole.graphs[variant.name, seed] = Graph(whole, variant, seed)
    for variant, stage in in_order(recipe.variants, models):
        for seed in recipe.seeds:
            whole.graphs[variant.name, seed].add(stage)
    if whole.found and recipe.compute.threads != 1:  # torch's threads do not survive a fork
        alone = recipe.compute.model_copy(update={"threads": 1})
        return make_plan(replace(recipe, compute=alone), host, live)
    made: dict[str, Job] = {}
    for graph in whole.graphs.values():
        made |= {key: job for key, job in graph.measured().items() if key not in made}
    jobs = _abreast(made)
    points = [point for graph in whole.graphs.values() for point in graph.points]
    stages = [jobs[point.model] for point in points if point.seed == recipe.seeds[0]]
    tried = dry_runs(stages, host, partial(machine, recipe))
    first = {key: job for key, job in jobs.items() if job.kind == "init"}
    first |= {job.key: job for job in tried.values()}
    dry = {stage: job.key for stage, job in tried.items()}
    return Plan(recipe, first | jobs, tuple(points), dry, tuple(sorted(whole.found)))


def _abreast(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Sorts jobs level by level across variants, so that an interrupted run can already compare them."""
    place: dict[str, tuple[int, int]] = {}
    counts: dict[str, int] = {}
    waiting, turn = dict(jobs), 0
    while waiting:  # twice only where a job needs a model of a later variant or seed
        later: dict[str, Job] = {}
        for key, job in waiting.items():
            if not all(needed in place for needed in job.inputs.values()):
                later[key] = job
                continue
            inputs = [place[needed][0] for needed in job.inputs.values()]
            if job.kind == "stage":
                lane = "/".join(job.label.split("/")[:2])
                counts[lane] = counts.get(lane, 0) + 1
                inputs.append(counts[lane])
            place[key] = max(inputs, default=0), turn
        waiting, turn = later, turn + 1
    return dict(sorted(jobs.items(), key=lambda item: place[item[0]]))  # stable: inputs still come first
