"""The command line: its words without a cluster, its deeds on a real one."""
