"""The faces: HTTP and WebSocket on one side, the hub on the other.

`site` routes, `upgrade` is the one road to a WebSocket, `session` joins frames to an attachment; each published
API is one module of data and small methods on top of them.
"""
