"""Strategy Rollouts: a Kubernetes operator that rolls trading strategies out by account and takes them back at once."""

__version__ = "0.1.0"
