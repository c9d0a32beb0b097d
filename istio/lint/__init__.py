"""Validation of Istio objects with istiod's rules, and of what rollout policies need of them. Pure."""

from __future__ import annotations

from istio.lint.cross import lint_all
from istio.lint.one import lint_object

__all__ = ["lint_all", "lint_object"]
