"""What tests of the runtime share: a plug-in with a stage kind that misbehaves on request, and a worker to give it to."""
