"""A self-hosted factory for models: data goes in, a served, monitored endpoint comes out."""
