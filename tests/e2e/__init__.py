"""The product as users install it, in a real cluster: images, chart, pods, a kubelet, and what goes wrong there.

Run by `make e2e CLUSTER=node|kind|current`; see docs/e2e.md.
"""
