{{/* The operator's ServiceAccount, and the name of every role that is its. */}}
{{- define "leaderboard.operator" -}}
{{ .Release.Name }}-operator
{{- end -}}

{{/*
What the pods of a role, or without one of the release, are found by. A Deployment can never change it, so nothing of it
may differ between versions.
*/}}
{{- define "leaderboard.selector" -}}
app.kubernetes.io/name: leaderboard
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* The labels of everything that the chart makes for a role, or without one for several. */}}
{{- define "leaderboard.labels" -}}
{{ include "leaderboard.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "leaderboard.operator.labels" -}}
{{ include "leaderboard.labels" (dict "root" . "role" "operator") }}
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

{{/* The image; a digest wins over the tag. */}}
{{- define "leaderboard.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The Secret that API, worker and operator read; the migration's own is in migrate.yaml. */}}
{{- define "leaderboard.secret" -}}
{{ .Values.existingSecret | default .Release.Name }}
{{- end -}}

{{- define "leaderboard.secretData" -}}
stringData:
  database-url: {{ .Values.secret.databaseUrl | quote }}
  redis-url: {{ .Values.secret.redisUrl | quote }}
  pepper: {{ .Values.secret.pepper | quote }}
  {{- with .Values.secret.signingKey }}
  signing-key: {{ . | quote }}
  {{- end }}
{{- end -}}

{{/* The API's URL, for the Secrets of the Tenants. */}}
{{- define "leaderboard.endpoint" -}}
{{- $port := .Values.api.service.port | int -}}
{{- $address := printf "http://%s-api.%s.svc" .Release.Name .Release.Namespace -}}
{{ .Values.operator.endpoint | default (eq $port 80 | ternary $address (printf "%s:%d" $address $port)) }}
{{- end -}}

{{/* What every role needs to start; `secret` is the Secret's name. */}}
{{- define "leaderboard.env.secret" -}}
- name: LEADERBOARD_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: database-url}}
- name: LEADERBOARD_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: redis-url}}
- name: LEADERBOARD_PEPPER
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: pepper}}
{{- end -}}

{{/* The settings that API, worker and operator share. As JSON, a large number does not become 1e+06. */}}
{{- define "leaderboard.env.settings" -}}
- name: LEADERBOARD_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
{{- range $name, $value := .Values.settings }}
- name: LEADERBOARD_{{ $name | snakecase | upper }}
  value: {{ $value | toJson | quote }}
{{- end }}
{{- if .Values.telemetry.enabled }}
- name: LEADERBOARD_TELEMETRY
  value: "1"
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.telemetry.endpoint | quote }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: service.namespace={{ .Release.Name }},k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)
{{- end }}
{{- end -}}

{{/* The start of every pod template: its labels and annotations. */}}
{{- define "leaderboard.podMetadata" -}}
{{- $values := index .root.Values .role -}}
{{- $annotations := $values.podAnnotations -}}
{{- if not (or .root.Values.existingSecret (eq .role "migrate")) -}}
{{- /* The pods read the Secret only as they start: another one has to start others. */ -}}
{{- $annotations = merge (dict "checksum/secret" (.root.Values.secret | toJson | sha256sum)) $annotations -}}
{{- end -}}
labels: {{- include "leaderboard.selector" . | nindent 2 }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What the pods of all roles have in common, as Pod Security's level `restricted` asks. */}}
{{- define "leaderboard.pod" -}}
{{- $values := index .root.Values .role -}}
# Kubernetes would add variables for each Service of the namespace, and those of ours begin with LEADERBOARD_ too.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  # In memory: gunicorn's processes tell each other by a file here that they live, which must not wait for a disk.
  - name: tmp
    emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end -}}

{{/* What all containers have in common. `kubectl describe pod` then shows the last lines of one that ended. */}}
{{- define "leaderboard.container" -}}
{{- $values := index .root.Values .role -}}
image: {{ include "leaderboard.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: tmp
    mountPath: /tmp
resources: {{- toYaml $values.resources | nindent 2 }}
{{- end -}}

{{/*
Over zones and nodes as far as there are some: with one node all pods are to run there. Each version by itself: while it
is replaced, the old one's pods say nothing about where new ones should be.
*/}}
{{- define "leaderboard.spread" -}}
topologySpreadConstraints:
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "leaderboard.selector" $ | nindent 8 }}
{{- end }}
{{- end -}}

{{/* A rule of a NetworkPolicy: out to the port or ports of `networkPolicy.egress.*`. */}}
{{- define "leaderboard.egress" -}}
{{- $ports := .ports | default (list .port) -}}
- ports:
    {{- range $ports }}
    - {protocol: TCP, port: {{ . | int }}}
    {{- end }}
  {{- with .cidr }}
  to:
    - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
{{- end -}}

{{/* Anywhere: the cluster's DNS may be a pod, or on the node itself. */}}
{{- define "leaderboard.egress.dns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}
