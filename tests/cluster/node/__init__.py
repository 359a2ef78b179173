"""A small node agent: what a kubelet does, as far as tests of rollouts need it, without root or a container engine.

Pods bound to the node run as real processes with their own network, process and mount namespaces, so strategies serve
real metrics, answer real probes and really crash.
"""
