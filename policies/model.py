"""The language: a rollout policy and a metric template as frozen, typed values.

The one model from which the parser, the CRD, the reference in docs/ and the offline rules are made. Every
field has a description, since `kubectl explain` and the reference print it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from policies.units import Dispersion, Duration, Factor, Percent

API_GROUP = "penstock.dev"
API_VERSION = f"{API_GROUP}/v1alpha1"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
SubsetName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$", max_length=63)
]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$", max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Weight = Annotated[int, Field(ge=1, le=100, strict=True)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=128)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Flag = Annotated[bool, Field(strict=True)]


class Spec(BaseModel):
    """Base of every part of the language: frozen, camelCase in YAML, unknown fields are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class Metadata(BaseModel):
    """The part of Kubernetes' object metadata that Penstock reads; the rest is kept and ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    name: Name
    """Unique among the objects of its kind in the namespace."""
    namespace: Name = "default"
    """Where the object, and every object it names, lives."""
    labels: dict[str, str] = {}
    """Labels for people and tools; Penstock does not read them."""
    annotations: dict[str, str] = {}
    """Notes for people and tools."""
    generation: int = 0
    """Counts changes of the spec; set by the store."""
    resource_version: str = ""
    """Changes with every write; set by the store."""
    uid: str = ""
    """Identity over time; set by the store."""


class ServiceRef(Spec):
    """The service whose versions are compared."""

    host: Host
    """The host that clients call: a short name in the policy's namespace, or a fully qualified one."""
    port: Port | None = None
    """The service port; needed only when the host has several."""


class VirtualServiceRef(Spec):
    """A VirtualService and the routes in it whose weights Penstock writes."""

    name: ObjectName
    """Its name; it lives in the policy's namespace."""
    routes: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    """Names of the http routes to manage (tls and tcp routes: `tls[0]`, `tcp[0]`); empty: the only one."""


class Variant(Spec):
    """One version of the service. Exactly one of `subset` and `host` says where its traffic goes."""

    name: Name
    """How reports and commands call it."""
    subset: SubsetName | None = None
    """A DestinationRule subset of the service's host."""
    host: Host | None = None
    """A host of its own, for versions that are separate services."""
    version: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """The value of the metrics' version label; without it, the subset's `version` label."""


class Step(Spec):
    """A stage of a canary: this share for the candidate, at least this long."""

    weight: Weight
    """Per cent of requests for the candidate, 1 to 100."""
    hold: Duration = Duration(0)
    """The least time at this weight with no harm shown."""
    pause: Flag = False
    """After the hold, wait for a person: `penstock promote NAME`."""
    require: Literal["noHarm", "safe"] = "noHarm"
    """What the evidence must say before the next step: no harm shown, or safety shown."""


class Canary(Spec):
    """Shift traffic in steps; after the last one, full promotion once every metric with a margin is safe."""

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=50)]
    """Stages in order; weights must rise."""


class Strategy(Spec):
    """How traffic moves. Exactly one member is set (later also abTest, blueGreen and shadow)."""

    canary: Canary | None = None
    """Shift traffic to the candidate in steps."""


class Metric(Spec):
    """A guardrail: shown harm rolls back. With a margin it is also a condition of promotion."""

    template: Name
    """The MetricTemplate to use: one of the catalog, or a document of your own."""
    name: Name | None = None
    """How reports call it; without it, the template's name."""
    margin: Percent | None = None
    """How much worse is still acceptable; promotion needs proof that it is not exceeded. For a proportion: of
    the odds. For latency: of the time itself."""
    tolerance: Percent = Percent.parse("0%")
    """Roll back only for harm beyond this (odds of an event, or of a slow request)."""
    margin_points: Percent | None = None
    """The margin in percentage points instead: `0.5%` accepts 1.5 % of events where the control has 1 %. For
    proportions."""
    tail: Percent = Percent.parse("1%")
    """For latency: an edge that fewer of the control's requests exceed has too few to compare with; there the
    proof of safety is that fewer than this share of the candidate's exceed it."""
    dispersion: Dispersion = Dispersion.parse("auto")
    """How clustered events are; evidence is divided by it. `auto` measures it on the control; a number is
    taken as it is: 1 for independent requests, more for retry storms."""
    assume: Factor = Factor.parse("2")
    """The dispersion to go by while `auto` has too little history to measure it."""
    label_delay: Duration = Duration(0)
    """For labels that come late: this metric is judged on what is counted this long after the weights last
    changed, when labels of both versions are of the same ages."""
    edges: Annotated[tuple[Factor, ...], Field(max_length=24)] = ()
    """For latency: bucket edges to judge, in the template's unit; empty: the template's."""

    @property
    def assumed_dispersion(self) -> float:
        """The dispersion to go by while none has been measured."""
        return float(self.assume if self.dispersion.value is None else self.dispersion.value)


class Decision(Spec):
    """Error rates, deadline, and what to do when the evidence does not decide."""

    false_rollback: Percent = Percent.parse("1%")
    """The chance to roll back a harmless candidate: over the whole rollout, all metrics and all looks."""
    false_promote: Percent = Percent.parse("5%")
    """The chance to promote a candidate that is worse than a margin, however often one looks."""
    interval: Duration = Duration(10_000)
    """Time between looks: whole seconds, at least two scrapes."""
    engine: Literal[
        "sequential",
        "fixedHorizonZ",
        "welch",
        "mannWhitney",
        "bayesBetaBinomial",
        "threshold",
        "thresholdInARow",
        "lindonMalek",
        "turner",
        "robustDifferences",
    ] = "sequential"
    """Who judges error rates. `sequential` keeps the error rates above; the others are there to compare with
    what is used elsewhere, and `penstock plan` says what they do not guarantee."""
    warm_up: Duration = Duration(0)
    """After each change of weights, leave this long out of the evidence: cold caches, first fast answers."""
    min_samples: Count = 100
    """Requests each of control and candidate must have had before anything is concluded."""
    deadline: Duration = Duration(7_200_000)
    """The longest a run may take without a decision; while it is paused, or waits for an approval, this clock
    stands still."""
    on_deadline: Literal["hold", "rollback", "promote"] = "hold"
    """What to do then."""
    on_no_data: Literal["hold", "rollback"] = "hold"
    """What to do when the metrics have had no data for `noDataTimeout`."""
    no_data_timeout: Duration = Duration(300_000)
    """How long without data before `onNoData` applies."""
    on_drift: Literal["correct", "adopt", "hold"] = "correct"
    """What to do when somebody else changes the managed weights during a run."""


class Watch(Spec):
    """After promotion: tell when events become more frequent than they were in the rollout."""

    duration: Duration = Duration(86_400_000)
    """How long to watch."""
    false_alarm_every: Duration = Duration(2_592_000_000)
    """The mean time between false alarms, per metric, while nothing gets worse."""
    tolerance: Percent = Percent.parse("50%")
    """How much more frequent than in the rollout is no alarm yet."""


class Promotion(Spec):
    """What becomes of the two versions when the candidate has been promoted."""

    mode: Literal["swap", "copy"] = "swap"
    """`swap`: the candidate becomes the control and keeps the traffic, no model is loaded twice. `copy`: the
    control's Deployment or StatefulSet takes the candidate's pod template (environment and arguments too, all
    but the labels that tell the two apart) and, once it is ready, the traffic again."""
    scale_down_after: Duration | None = None
    """How long after the end of a run the version without traffic is scaled to zero; it is scaled up again
    before it gets traffic. What something else uses (a route, a Service, another policy) is never scaled.
    Without it, nothing is scaled."""


class ManualAction(Spec):
    """A manual action as part of the spec, for GitOps; by hand, annotate `penstock.dev/action=VERB:NONCE`."""

    verb: Literal["pause", "resume", "promote", "promote-full", "abort", "retry"]
    """What to do. `abort` rolls back; `retry` starts a new run, or tries a failed copy again."""
    nonce: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """Any text; each nonce acts once, however often the object is applied."""


class RolloutSpec(Spec):
    """What a team wants of a rollout."""

    service: ServiceRef
    """The service whose versions are compared."""
    virtual_service: VirtualServiceRef | None = None
    """The VirtualService that splits its traffic. Exactly one of this and `virtualServices` is set."""
    virtual_services: Annotated[tuple[VirtualServiceRef, ...], Field(max_length=16)] = ()
    """Several VirtualServices that carry the same split."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=2, max_length=16)]
    """The versions; the first is the control. A canary takes two."""
    strategy: Strategy
    """How traffic moves."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=32)]
    """What is judged; at least one has a margin."""
    decision: Decision = Decision()
    """Error rates, deadline, and what to do when the evidence does not decide."""
    promotion: Promotion = Promotion()
    """What becomes of the two versions when the candidate has been promoted."""
    watch: Watch | None = None
    """What to do after promotion; without it, nothing is watched then."""
    on_deletion: Literal["rollback", "keep"] = "rollback"
    """What happens to traffic when the policy is deleted while a run is open: all to the control, or as it
    is."""
    action: ManualAction | None = None
    """A manual action; each nonce acts once."""

    @property
    def routes(self) -> tuple[VirtualServiceRef, ...]:
        """The VirtualServices whose weights are managed, however they were written."""
        single = (self.virtual_service,) if self.virtual_service else ()
        return single + self.virtual_services


class RolloutPolicy(Spec):
    """One declarative rollout (`penstock.dev/v1alpha1`, kind RolloutPolicy)."""

    api_version: Literal["penstock.dev/v1alpha1"]
    """The version of the language: `penstock.dev/v1alpha1`."""
    kind: Literal["RolloutPolicy"]
    """`RolloutPolicy`."""
    metadata: Metadata
    """Name, namespace and the rest of Kubernetes' object metadata."""
    spec: RolloutSpec
    """What a team wants of a rollout."""

    @property
    def key(self) -> str:
        """Namespace and name, as `namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def destination(self, variant: Variant) -> str:
        """Return where a variant's traffic goes, as the dialect calls it: HOST/SUBSET or HOST."""
        return f"{self.spec.service.host}/{variant.subset}" if variant.subset else str(variant.host)


class Labels(Spec):
    """The labels of a metric that say whose request it was."""

    namespace: LabelName
    """The label with the destination's namespace."""
    service: LabelName
    """The label with the destination service's name or host."""
    version: LabelName
    """The label with the destination's version."""
    instance: LabelName = "instance"
    """The label with the process that counted; its counters reset together."""


class Outcome(Spec):
    """How a request is read as an event, by the label values of its series.

    Regular expressions match whole values (RE2, as in PromQL): classes, groups, alternatives and counts;
    flags only at the start, as `(?i)` or `(?s)`; neither word boundaries nor `[[:digit:]]`. Values over 128
    characters match nothing.
    """

    protocol_label: LabelName | None = None
    """The label that tells gRPC from HTTP (its value `grpc`)."""
    http_label: LabelName
    """The label with the HTTP status."""
    http_event: Text
    """HTTP statuses that are events, e.g. `5..`."""
    grpc_label: LabelName | None = None
    """The label with the gRPC status."""
    grpc_event: Text | None = None
    """gRPC statuses that are events, e.g. `2|4|8|12|13|14|15`."""


class TemplateSpec(Spec):
    """A metric for all rollouts at once: one grouped query, and how to read its answer."""

    kind: Literal["proportion", "histogram", "mean", "share"]
    """proportion: events among requests. histogram: cumulative buckets. mean: sum and count. share: requests
    only, to test the observed split against the intended one."""
    unit: Literal["requests", "milliseconds", "seconds", "microseconds", "ratio"]
    """The unit of the value (of the edges, for a histogram)."""
    direction: Literal["lowerIsBetter", "higherIsBetter"] = "lowerIsBetter"
    """Which way is harm."""
    query: Text
    """PromQL for an instant vector of cumulative counters or native histograms, summed by at least `labels`
    (and `le`)."""
    labels: Labels
    """The labels that name namespace, service, version and instance."""
    outcome: Outcome | None = None
    """For a proportion: which series count as events."""
    edges: Annotated[tuple[Factor, ...], Field(max_length=24)] = ()
    """For a histogram: the bucket edges that are judged, as the buckets have them. A native histogram has
    edges at every power of two from 1/1024 to 4096: `"0.25"`, `"0.5"`, `"1"`."""
    description: Text
    """One sentence for reports."""


class MetricTemplate(Spec):
    """A metric as data (`penstock.dev/v1alpha1`, kind MetricTemplate)."""

    api_version: Literal["penstock.dev/v1alpha1"]
    """The version of the language: `penstock.dev/v1alpha1`."""
    kind: Literal["MetricTemplate"]
    """`MetricTemplate`."""
    metadata: Metadata
    """Name, namespace and the rest of Kubernetes' object metadata."""
    spec: TemplateSpec
    """The metric."""
