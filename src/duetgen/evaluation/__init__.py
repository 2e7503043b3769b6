"""Measuring a model honestly: protocols, controls, intervals over devices, provenance.

- `conditions`: where theta comes from while a model is measured
- `inputs`: what the device model and the generator read for each target
- `protocols`: what a target is ranked among
- `metrics`: from ranks and scores to figures
- `calibration`: what makes scores probabilities, for log loss
- `averages`: from targets to devices to one figure
- `bootstrap`: intervals over devices
- `result`: typed records, JSON, paired differences
- `provenance`: where a figure comes from
- `scoring`: the targets that are measured, and their scores
- `catalogue`: these in batches, for what is chosen by scores of its own
- `evaluator`: what ties them together for reports; `validation` for early stopping
"""

from duetgen.evaluation.bootstrap import Interval
from duetgen.evaluation.conditions import OWN, ZERO, Condition, default_conditions
from duetgen.evaluation.evaluator import evaluate
from duetgen.evaluation.result import ConditionResult, Difference, Evaluation, compare
from duetgen.evaluation.validation import few_devices, validate

__all__ = [
    "OWN",
    "ZERO",
    "Condition",
    "ConditionResult",
    "Difference",
    "Evaluation",
    "Interval",
    "compare",
    "default_conditions",
    "evaluate",
    "few_devices",
    "validate",
]
