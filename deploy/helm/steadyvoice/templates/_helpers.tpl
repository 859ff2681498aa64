{{- define "steadyvoice.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "steadyvoice.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "steadyvoice.labels" -}}
{{ include "steadyvoice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The configuration file. Values of TOML are written as JSON, which is TOML for texts, numbers and lists. */}}
{{- define "steadyvoice.config" -}}
{{- $name := include "steadyvoice.name" . -}}
{{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) -}}
[server]
host = "0.0.0.0"
port = 8040
api_keys = ["env:STEADYVOICE_API_KEY"]
admin_token = "env:STEADYVOICE_ADMIN_TOKEN"
allowed_hosts = {{ concat $hosts .Values.allowedHosts | toJson }}
shutdown_delay = 0.0
shutdown_timeout = {{ .Values.shutdown.timeoutSeconds }}
state_file = "/var/lib/steadyvoice/circuits.json"
{{- range $key, $value := .Values.server }}
{{ $key }} = {{ toJson $value }}
{{- end }}

[cache]
path = "/var/cache/steadyvoice"
{{- if .Values.fleet.enabled }}

[fleet]
url = "env:STEADYVOICE_FLEET_URL"
name = {{ toJson .Values.fleet.name }}
expected_replicas = {{ .Values.replicas }}
{{- end }}

{{ .Values.config }}
{{- end }}
