"""The HTTP face of a service: requests in, answers out, the gateway, and what stands before it."""
