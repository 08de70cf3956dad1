"""Replicas on a Ray cluster: who starts them, watches them, adds and removes them.

What it is for: `launch.py` brings a cluster up or joins one, and deploys; `replica.py` is what runs there, an engine
and its `engine.fleet` host; `directory.py` tells where the replicas are; `autoscaling.py` hands Ray Serve's numbers to
`engine.fleet.scaling`; `application.py` is for Serve's own configuration files. What may not enter: how requests are
routed, moved, or counted (that is `engine.fleet`, which knows no Ray).

The idea: Ray places processes and restarts them; tokens do not pass through it. A replica listens on a socket of its
own, and the service speaks to it in the engine's messages, one frame a step. So a death shows within seconds, whatever
Ray knows of it, a head node that is gone stops no stream, and nothing on a request's way is pickled.
"""
