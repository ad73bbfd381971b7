"""Policies that need no training: scripted ones, and the operators of unequal skill that logs are collected with."""

from sealegs_sim.policies.base import POLICY_NAMES, Policy, make_policy
from sealegs_sim.policies.scripted import ScriptedPolicy

__all__ = ["POLICY_NAMES", "Policy", "ScriptedPolicy", "make_policy"]
