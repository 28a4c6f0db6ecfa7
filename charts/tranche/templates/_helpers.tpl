{{/* Name of the chart, at most 63 characters as labels allow. */}}
{{- define "tranche.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of everything that is installed. 50 characters leave room for what is appended. */}}
{{- define "tranche.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tranche.selector" -}}
app.kubernetes.io/name: {{ include "tranche.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tranche.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tranche.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tranche
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tranche.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tranche.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tranche.watchNamespace" -}}
{{- default .Release.Namespace .Values.watchNamespace }}
{{- end }}

{{- define "tranche.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What both containers have in common. Takes the root and the name of the ops port. */}}
{{- define "tranche.container" -}}
{{- $root := index . 0 }}
{{- $ops := index . 1 -}}
image: {{ include "tranche.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
# Alive once it found its kinds, for which it gives the API server a minute.
startupProbe:
  httpGet: {path: /livez, port: {{ $ops }}}
  periodSeconds: 2
  failureThreshold: 45
livenessProbe:
  httpGet: {path: /livez, port: {{ $ops }}}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: {{ $ops }}}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "tranche.env" -}}
- name: TRANCHE_NAMESPACE
  value: {{ include "tranche.watchNamespace" . }}
- name: TRANCHE_LOG_FORMAT
  value: {{ .Values.logFormat }}
# Names this pod in Events.
- name: HOSTNAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
