"""Serving: stages in plain Python, an HTTP gateway, and the places where both run.

    place     one version loaded, in this process or as Ray Serve deployments: the only ``ray.serve``
    traffic | kept: which version answers whom; answers that are given again
    stages | http
    events | rules: what is told while a version serves; what a business wants of a list
    query, clock, barred, version, versions, follower: the ground, which knows neither raw ids nor HTTP

Imports point down. An application is a list of stages (``stages.listed``) that every placement runs, and
that ``pipelines.two_stage`` runs offline.
"""
