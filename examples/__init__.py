"""Four real inputs, one mechanism; each folder makes its data, runs its pipeline, and prints the baselines beside the model."""
