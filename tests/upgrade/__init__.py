"""What an upgrade of the operator leaves alone."""
