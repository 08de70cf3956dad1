"""Many engines behind one: the same protocol as `engine.Engine`, over replicas on this and other machines.

What it is for: `host.py` stands beside an engine and lets others use it over TCP; `link.py` is the other end;
`client.py` chooses a replica for each request and takes it to another one when that dies. Three files are pure, so that
a simulation of thousands of replicas, the tests and the servers run the same code: `routing.py` (who takes a request),
`fitness.py` (who is slow), `scaling.py` (how many there should be). What may not enter: who starts replicas (Ray, an
operator), torch, HTTP.
"""
