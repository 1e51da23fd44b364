"""The conformance kit: tests whether a plugin follows the contract of its kind.

In a test of your package::

    from compressit.testing import parametrize

    @parametrize("prune.mine", options={"sparsity": 0.5})
    def test_conforms(check):
        check()

On the command line: `compressit plugins check prune.mine --set sparsity=0.5`.
"""

from compressit.testing.check import Check, ConformanceError, NotApplicable, Outcome, outcomes
from compressit.testing.kit import CHECKS, checks_for, parametrize
from compressit.testing.subject import Subject

__all__ = [
    "CHECKS",
    "Check",
    "ConformanceError",
    "NotApplicable",
    "Outcome",
    "Subject",
    "checks_for",
    "outcomes",
    "parametrize",
]
