{{/* The environment of the operator; docs/settings.md explains each variable. What is empty keeps its default there. */}}
{{- define "strategy-rollouts.settings" -}}
- name: STRATEGYROLLOUT_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- $set := dict
  "LEADER_LEASE" (printf "%s/%s" .Release.Namespace (include "strategy-rollouts.name" .))
  "LEASE_DURATION" .Values.leaderElection.leaseDuration
  "RENEW_DEADLINE" .Values.leaderElection.renewDeadline
  "RETRY_PERIOD" .Values.leaderElection.retryPeriod
  "ROUTER_IMAGE" (include "strategy-rollouts.image" (dict "image" .Values.router.image "version" .Chart.AppVersion))
  "NAMESPACES" (join "," .Values.namespaces)
  "SELECTOR" .Values.selector
  "PROMETHEUS" .Values.prometheus
  "LOG_LEVEL" .Values.log.level
  "LOG_FORMAT" .Values.log.format
  "WORKERS" .Values.settings.workers
  "RESYNC" .Values.settings.resync
  "CHECK" .Values.settings.check
  "PASS_TIMEOUT" .Values.settings.passTimeout
  "LIVE_NUMBERS" .Values.settings.liveNumbers
  "EVIDENCE" .Values.settings.evidence
}}
{{- range $name, $value := $set }}
{{- if $value }}
- name: STRATEGYROLLOUT_{{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end -}}
