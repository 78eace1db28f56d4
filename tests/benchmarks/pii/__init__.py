"""A labelled set of texts with personal data and look-alikes, made from a seed without the detector's help."""
