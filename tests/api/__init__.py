"""What the API promises: schemas, samples, and refusals that say what to do."""
