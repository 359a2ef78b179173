{{/* Name of every object of the release. Cluster-scoped ones too, so releases need different names. */}}
{{- define "strategy-rollouts.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "strategy-rollouts.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "strategy-rollouts.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name the ServiceAccount that you made, or leave serviceAccount.create on" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "strategy-rollouts.selector" -}}
app.kubernetes.io/name: strategy-rollouts
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "strategy-rollouts.labels" -}}
{{ include "strategy-rollouts.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* Reference of an image: {image: values of the image, version: appVersion}. */}}
{{- define "strategy-rollouts.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}{{ with .image.tag }}:{{ . }}{{ end }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .version .image.tag }}
{{- end -}}
{{- end -}}
