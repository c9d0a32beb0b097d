"""`penstock lint` against Istio itself: the API server and `istioctl validate`.

An object is stored when the API server (the CRD's schema and CEL) and istiod's webhook (what
`istioctl validate` runs) both let it pass. Lint has to say an error exactly when one of them rejects. Which
of them it is stands in tests/corpus/istio/layers.yaml; what lint says beyond both, in more.yaml beside it,
with the reason.
"""

import json
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest

from istio.lint import lint_object
from policies.findings import errors
from tests.support.istio_verdicts import ApiServer, Said, istioctl
from tests.support.mutants import Mutants
from tests.support.oracle_corpus import corpus, table, tell

pytestmark = [pytest.mark.real, pytest.mark.cluster]

MUTANTS = 1500
SEED = 5


@dataclass(frozen=True)
class Verdicts:
    """What all three judges say of one object."""

    name: str
    obj: Any
    api_server: Said
    istiod: Said

    @property
    def layers(self):
        """Who rejects the object."""
        judges = {"api-server": self.api_server, "istiod": self.istiod}
        return [name for name, said in judges.items() if said.errors]

    @property
    def findings(self):
        return lint_object(self.obj)

    @property
    def agree(self):
        return bool(errors(self.findings)) == bool(self.layers)

    @property
    def more(self):
        """The codes of lint for an object that neither judge finds anything in."""
        silent = not self.layers and not self.istiod.warnings
        return {finding.code for finding in self.findings} if silent else set()

    def __str__(self):
        said = {"api-server": self.api_server, "istiod": self.istiod, "lint": errors(self.findings)}
        return f"{self.name}: {said}\n{json.dumps(self.obj)}"


class Court:
    """Puts objects before the API server and istioctl."""

    def __init__(self, cluster, folders):
        self.api = ApiServer(cluster.api_url, cluster.ca, cluster.token)
        self._istioctl = cluster.binary("istioctl")
        self._folders = folders

    def judge(self, named):
        objects = list(named.values())
        by_istiod = istioctl(self._istioctl, objects, self._folders.mktemp("istioctl"))
        return [
            Verdicts(name, obj, self.api.says(obj), said)
            for (name, obj), said in zip(named.items(), by_istiod, strict=True)
        ]


@pytest.fixture(scope="module")
def court(corpus_cluster, tmp_path_factory):
    judges = Court(corpus_cluster, tmp_path_factory)
    yield judges
    judges.api.close()


@pytest.fixture(scope="module")
def judged(court):
    return court.judge(corpus())


def test_lint_rejects_exactly_what_the_api_server_or_istiod_rejects(judged, capsys):
    rejected = sum(bool(verdict.layers) for verdict in judged)
    alike = sum(verdict.agree for verdict in judged)
    more = sum(bool(verdict.more) for verdict in judged)
    tell(
        capsys,
        f"lint: {len(judged)} objects, {rejected} of them rejected by Istio: {alike} judged alike by lint, "
        f"{more} with warnings of its own",
    )
    assert [str(verdict) for verdict in judged if not verdict.agree] == []


def test_valid_objects_pass_and_invalid_ones_do_not(judged):
    expected = {"valid": False, "invalid": True, "accept": False, "warn": False, "reject": True}
    wrong = [str(v) for v in judged if bool(v.layers) != expected[v.name.split("/")[0]]]
    assert wrong == []


def test_the_table_names_who_rejects_each_invalid_object(judged):
    found = {}
    for verdict in judged:
        if verdict.layers:
            found.setdefault(" and ".join(verdict.layers), []).append(verdict.name)
    assert {judges: sorted(names) for judges, names in found.items()} == table("layers")


def test_what_lint_says_beyond_istio_is_listed(judged):
    listed = {entry["code"] for entry in table("more")}
    assert {code for verdict in judged for code in verdict.more} == listed


def test_where_istiod_warns_lint_says_something_too(judged):
    assert [str(v) for v in judged if v.istiod.warnings and not v.findings] == []


def test_lint_judges_damaged_objects_as_istio_does(court, judged, capsys):
    sound = [verdict.obj for verdict in judged if not verdict.layers]
    damaged = islice(Mutants(sound, SEED), MUTANTS)
    verdicts = court.judge({f"mutant {index}": obj for index, obj in enumerate(damaged)})
    rejected = sum(bool(verdict.layers) for verdict in verdicts)
    tell(capsys, f"lint: {MUTANTS} damaged objects, {rejected} rejected by Istio")
    assert MUTANTS / 4 < rejected < MUTANTS * 3 / 4
    assert [str(verdict) for verdict in verdicts if not verdict.agree] == []
