"""The demo: a whole story on a real API server, told as it happens, every claim of it checked."""
