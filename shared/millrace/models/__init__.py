"""What a model is: signature, package, featurizers, predictors. Imports no torch."""
