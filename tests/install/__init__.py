"""The product as users install it: the chart and the manifests made from it, checked and used on a real API server."""
