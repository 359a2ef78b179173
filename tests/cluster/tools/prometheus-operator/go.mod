// Pinned source of the Prometheus Operator's CRDs, which the chart's monitors are checked against. Nothing is built.
module strategyrollout.io/tools/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
