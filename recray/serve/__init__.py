"""Serving: stages in plain Python, an HTTP gateway, and the Ray Serve deployments that place them."""
