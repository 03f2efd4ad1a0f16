"""May this device take new work, and what is an operator to do? Pure: facts and the state before in, findings out.

`facts` is what is known in one round, `rules` what is made of it, `judging` the step over time, `keeping` the state as
text, `mapping` how readings become facts.
"""

from node_agent.health.facts import DeviceFacts, Fault, Missing, Recovery, Round
from node_agent.health.judging import HealthState, cleared, judge
from node_agent.health.rules import DEFAULT_RULES, HealthRules, Limits, Rule, Signal
from node_agent.health.verdicts import Advice, Finding, Jobs, Lifts, Use, use_of

__all__ = [
    "DEFAULT_RULES",
    "Advice",
    "DeviceFacts",
    "Fault",
    "Finding",
    "HealthRules",
    "HealthState",
    "Jobs",
    "Lifts",
    "Limits",
    "Missing",
    "Recovery",
    "Round",
    "Rule",
    "Signal",
    "Use",
    "cleared",
    "judge",
    "use_of",
]
