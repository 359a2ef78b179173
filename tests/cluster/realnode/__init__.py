"""A real node: containerd, runc, kubelet and kube-proxy beside the control plane, in namespaces of their own.

Why: pods that a kubelet pulls by digest, confines, limits and kills are what users run, and the pretended node of
`tests.cluster.node` can show none of that. No container engine has to be there beforehand, but it needs root.
"""
