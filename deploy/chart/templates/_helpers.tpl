{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "penstock.serviceAccount" -}}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "penstock.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "penstock.tokenSecret" -}}
{{- if .Values.api.token.existingSecret -}}
{{ .Values.api.token.existingSecret }}
{{- else if .Values.api.token.generate -}}
{{ include "penstock.fullname" . }}-token
{{- end -}}
{{- end -}}

{{- define "penstock.claim" -}}
{{- default (printf "%s-history" (include "penstock.fullname" .)) .Values.history.sqlite.existingClaim -}}
{{- end -}}

{{/* Where Prometheus' token is read; empty without one. */}}
{{- define "penstock.prometheusToken" -}}
{{- with .Values.prometheus -}}
{{- if .serviceAccountToken -}}
/var/run/secrets/kubernetes.io/serviceaccount/token
{{- else if and .existingSecret .secretKeys.token -}}
/etc/penstock/prometheus/token
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The files for Prometheus that come from Secrets and ConfigMaps, as sources of one volume; empty without any. */}}
{{- define "penstock.prometheusFiles" -}}
{{- with .Values.prometheus }}
{{- if and .existingSecret .secretKeys.token }}
- secret:
    name: {{ .existingSecret | quote }}
    items: [{key: {{ .secretKeys.token | quote }}, path: token}]
{{- end }}
{{- if .caConfigMap }}
- configMap:
    name: {{ .caConfigMap | quote }}
    items: [{key: {{ .caKey | quote }}, path: ca.crt}]
{{- end }}
{{- if .caSecret }}
- secret:
    name: {{ .caSecret | quote }}
    items: [{key: {{ .caKey | quote }}, path: ca.crt}]
{{- end }}
{{- if .clientCertificateSecret }}
- secret:
    name: {{ .clientCertificateSecret | quote }}
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}
{{- end }}
{{- end -}}

{{/* Refuses values that would install something that cannot work, with a sentence. */}}
{{- define "penstock.check" -}}
{{- with .Values.prometheus -}}
{{- if not (or .url (and .existingSecret .secretKeys.url)) -}}
{{- fail "prometheus.url is needed: where the metrics are, such as http://prometheus.monitoring:9090 (or prometheus.existingSecret, with the address under prometheus.secretKeys.url)" -}}
{{- end -}}
{{- if and .existingSecret .url (not .secretKeys.token) (not .secretKeys.headers) -}}
{{- fail "prometheus.existingSecret would be used for nothing: name prometheus.secretKeys.token or .headers, or leave prometheus.url empty" -}}
{{- end -}}
{{- if and (or .secretKeys.token .secretKeys.headers) (not .existingSecret) -}}
{{- fail "prometheus.secretKeys needs prometheus.existingSecret: the Secret that has these keys" -}}
{{- end -}}
{{- if and .serviceAccountToken .secretKeys.token -}}
{{- fail "prometheus: set serviceAccountToken or secretKeys.token, not both" -}}
{{- end -}}
{{- if and .caConfigMap .caSecret -}}
{{- fail "prometheus: set caConfigMap or caSecret, not both" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.prometheus.url) (not .Values.networkPolicy.egress.prometheusPort) -}}
{{- fail "networkPolicy.enabled needs networkPolicy.egress.prometheusPort where the address of Prometheus is in a Secret" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (eq .Values.history.store "sqlite") -}}
{{- fail (printf "replicas: %d needs history.store: postgresql (or none): SQLite is a file of one pod" (int .Values.replicas)) -}}
{{- end -}}
{{- if and (eq .Values.history.store "postgresql") (not .Values.history.postgresql.existingSecret) -}}
{{- fail "history.store: postgresql needs history.postgresql.existingSecret: a Secret with the URL of the database" -}}
{{- end -}}
{{- if and .Values.api.token.generate .Values.api.token.existingSecret -}}
{{- fail "api.token: set generate or existingSecret, not both" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create: false needs serviceAccount.name: the ServiceAccount that is there" -}}
{{- end -}}
{{- end -}}
