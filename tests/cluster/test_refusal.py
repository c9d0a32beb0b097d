"""Where no cluster can be had, the tests that need one are skipped with the reason; in CI they fail."""

from __future__ import annotations

import pytest

from tests.support import clusters

REASON = "the Go module proxy cannot be reached"


@pytest.mark.parametrize(
    ("in_ci", "outcome"), [(False, pytest.skip.Exception), (True, pytest.fail.Exception)]
)
def test_the_reason_is_one_line_and_in_ci_a_failure(
    monkeypatch: pytest.MonkeyPatch, *, in_ci: bool, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(clusters, "IN_CI", in_ci)
    with pytest.raises(outcome) as refused:
        clusters.refuse(REASON)
    assert str(refused.value) == f"no cluster: {REASON}"
