{{/* The operator's ServiceAccount, and the name of every role that is its. */}}
{{- define "leaderboard.operator" -}}
{{ .Release.Name }}-operator
{{- end -}}

{{/* The labels of everything that the chart makes for the operator. */}}
{{- define "leaderboard.operator.labels" -}}
app.kubernetes.io/name: leaderboard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The one subject of every binding: the operator's ServiceAccount. */}}
{{- define "leaderboard.operator.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "leaderboard.operator" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{/*
What the operator may do with Secrets, in a Role or in a ClusterRole. There is no list and no watch: it gets the Secrets
of its Tenants by name.
*/}}
{{- define "leaderboard.operator.secretRules" -}}
rules:
  - apiGroups: [""]
    resources: [secrets]
    verbs: [get, create, update, delete]
{{- end -}}
