"""The router pod: HAProxy, which admits or refuses every request, and an agent that tells it who gets what.

Two containers of one image share a folder and live and die together. `proxy` keeps HAProxy running; `agent` follows
one `TrafficAssignment`, puts its table into force, acknowledges it in the pod's own Lease, and says until when leased
ranges may be served. HAProxy compares that deadline itself, so an agent that is dead or paused opens nothing.
"""
