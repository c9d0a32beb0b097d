"""The pages for those who come from Argo Rollouts and Flagger: complete, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from controller.cli import app
from controller.cli.plugin import app as plugin
from policies import crd
from policies.parse import parse
from policies.rules import check_all

DOCS = Path(__file__).parents[2] / "docs"
ARGO, FLAGGER = "coming-from-argo-rollouts.md", "coming-from-flagger.md"
FIELDS = {
    ARGO: """
        replicas selector template workloadRef minReadySeconds rollbackWindow revisionHistoryLimit
        paused progressDeadlineSeconds progressDeadlineAbort restartAt successfulRunHistoryLimit
        unsuccessfulRunHistoryLimit canaryService stableService setWeight pause analysis experiment
        setCanaryScale setHeaderRoute setMirrorRoute plugin virtualService virtualServices routes
        tlsRoutes tcpRoutes destinationRule additionalSubsetNames managedRoutes maxTrafficWeight
        nginx alb smi ambassador appMesh traefik apisix plugins maxUnavailable maxSurge startingStep
        antiAffinity canaryMetadata stableMetadata scaleDownDelaySeconds scaleDownDelayRevisionLimit
        abortScaleDownDelaySeconds dynamicStableScale pingPong minPodsPerReplicaSet
        replicaProgressThreshold activeService previewService previewReplicaCount
        autoPromotionEnabled autoPromotionSeconds prePromotionAnalysis postPromotionAnalysis
        previewMetadata activeMetadata args dryRun measurementRetention templates interval
        initialDelay count successCondition failureCondition failureLimit inconclusiveLimit
        consecutiveErrorLimit consecutiveSuccessLimit prometheus kayenta web datadog wavefront
        newRelic job cloudWatch graphite influxdb skywalking terminate ttlStrategy duration analyses
        abort create dashboard get lint list notifications promote restart retry set status undo
        completion version rangeQuery timeout insecure headers authentication address
    """,
    FLAGGER: """
        provider metricsServer targetRef autoscalerRef primaryScalerQueries primaryScalerReplicas
        ingressRef routeRef upstreamRef progressDeadlineSeconds skipAnalysis revertOnDeletion
        suspend name port portName targetPort appProtocol trafficDistribution portDiscovery headless
        timeout backendTimeout gateways gatewayRefs hosts delegation trafficPolicy match rewrite
        retries headers mirror corsPolicy meshName backends apex primary canary unmanagedMetadata
        interval iterations mirrorWeight maxWeight stepWeight stepWeights stepWeightPromotion
        threshold primaryReadyThreshold canaryReadyThreshold alerts thresholdRange templateRef
        templateVariables query confirm-rollout pre-rollout rollout confirm-traffic-increase
        confirm-promotion post-rollout rollback event sessionAffinity cookieName primaryCookieName
        maxAge domain path httpOnly secure sameSite partitioned AlertProvider address secretRef
        request-success-rate request-duration config-tracking
    """,
}
BLOCKS = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def page(name):
    return (DOCS / name).read_text()


def prose(name):
    return BLOCKS.sub("", page(name))


def cells(name):
    """Return the cells of Penstock's columns."""
    for line in prose(name).splitlines():
        if line.startswith("|"):
            yield from line.replace("\\|", "").split("|")[2:]


def resolves(path):
    node = crd.definitions()["rolloutpolicies.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    node = node["properties"]["spec"]
    for part in path.replace("[]", "").split("."):
        node = node.get("items", node)
        if part not in node.get("properties", {}):
            return False
        node = node["properties"][part]
    return True


@pytest.mark.parametrize("name", [ARGO, FLAGGER])
def test_every_field_and_verb_of_theirs_is_told_of(name):
    told = set(re.findall(r"[\w-]+", prose(name)))
    assert [word for word in FIELDS[name].split() if word not in told] == []


@pytest.mark.parametrize("name", [ARGO, FLAGGER])
def test_every_field_of_ours_that_is_named_exists(name):
    spec = crd.definitions()["rolloutpolicies.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    tops = spec["properties"]["spec"]["properties"].keys()
    named = {
        path for cell in cells(name) for path in re.findall(r"`([a-z]\w*(?:\[\])?(?:\.\w+(?:\[\])?)+)`", cell)
    }
    ours = {path for path in named if re.match(r"\w+", path)[0] in tops}
    assert len(ours) > 10
    assert [path for path in sorted(ours) if not resolves(path)] == []


@pytest.mark.parametrize("name", [ARGO, FLAGGER])
def test_every_verb_of_ours_exists(name):
    ours, plain = get_command(plugin).commands, get_command(app).commands
    for verb in re.findall(r"`kubectl penstock (\w+)", prose(name)):
        assert verb in ours, verb
    for verb in re.findall(r"`penstock (\w+)", prose(name)):
        assert verb in plain, verb


@pytest.mark.parametrize("name", [ARGO, FLAGGER])
def test_the_translated_example_is_a_right_policy(name):
    texts = [text for text in BLOCKS.findall(page(name)) if "penstock.dev/v1alpha1" in text]
    assert len(texts) == 1
    parsed = parse([("page.yaml", texts[0])])
    assert [str(finding) for finding in [*parsed.findings, *check_all(parsed.policies, [])]] == []
    assert all(list(yaml.safe_load_all(text)) for text in BLOCKS.findall(page(name)))
