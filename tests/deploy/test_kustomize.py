"""The kustomize base: the chart with its default values, object by object."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from cluster.build import ensure_built
from policies import crd
from tests.support.chart import CHART, objects

pytestmark = pytest.mark.cluster

DEPLOY = CHART.parent


def identity(obj):
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def built():
    kubectl = ensure_built().binary("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", DEPLOY / "kustomize"], capture_output=True, text=True, check=True
    )
    return {identity(obj): obj for obj in yaml.safe_load_all(done.stdout)}


def test_the_base_is_the_chart_with_its_default_values_and_the_crds(helm):
    chart = [*objects(helm, "penstock"), *crd.definitions().values()]
    assert built() == {identity(obj): obj for obj in chart}


def test_the_base_is_fresh(helm):
    tool = DEPLOY.parent / "tools" / "kustomize.py"
    done = subprocess.run(
        [sys.executable, tool, helm, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
