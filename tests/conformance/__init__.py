"""The numbered cases of behaviour, each on a real API server with the operator as a process of its own."""
