"""A gate: whether a run meets a policy, by intervals; pass, fail or undecided."""

from cas_metric.gating.policy import Policy, Rule, read_policy
from cas_metric.gating.rules import Decision, decide, overall

__all__ = ["Decision", "Policy", "Rule", "decide", "overall", "read_policy"]
