"""Where an application runs: fused in one process, or spread over Ray Serve deployments."""
