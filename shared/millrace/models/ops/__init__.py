"""The featurizers' operations: declarative, versioned, vectorised, the same in training and in serving."""
