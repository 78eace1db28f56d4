"""The audit stage: what in a data set would mislead who learns from it. It changes nothing and reports everything."""
