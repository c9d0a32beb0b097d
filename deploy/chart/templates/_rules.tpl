{{/* What Penstock may do where the rollouts are. Each rule says what needs it. */}}
{{- define "penstock.rules" -}}
# the policies, the metrics of one's own, the routes whose weights are managed, and what clusters and subsets
# mean (DestinationRules, ServiceEntries): the informers
- apiGroups: [penstock.dev]
  resources: [rolloutpolicies, metrictemplates]
  verbs: [get, list, watch]
- apiGroups: [networking.istio.io]
  resources: [virtualservices, destinationrules, serviceentries]
  verbs: [get, list, watch]
# which Deployments and StatefulSets a subset selects, their revisions and whether they are ready: the scene
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch]
# whether the candidate crash-loops; read when a run is open, not watched
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# the weights: one JSON Patch per change
- apiGroups: [networking.istio.io]
  resources: [virtualservices]
  verbs: [patch]
# the finalizer that brings traffic home when a policy is deleted, and the API's actions (an annotation)
- apiGroups: [penstock.dev]
  resources: [rolloutpolicies]
  verbs: [patch]
# what was decided and why; the spec cannot be changed by this
- apiGroups: [penstock.dev]
  resources: [rolloutpolicies/status]
  verbs: [patch]
# what happened, as `kubectl describe` shows it: a repeated event is counted (patch), also one that was told
# before a restart (get); the API's reports show them (list)
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, get, list, patch]
{{- if .Values.workloads.write }}
# promotion.mode: copy (the control takes the candidate's pod template) and promotion.scaleDownAfter
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [patch]
{{- end }}
{{- end -}}
