"""How an assignment is enforced: one module a provider, one line each in `providers`."""
