"""consoled's own API, `/v1`: everything that can be asked of the daemon, in JSON, and the stream of a console.

`face` is what the site asks.  `routing` finds the route of a request, has the gate decide, reads what the request says
into the types of `shapes`, and calls what the route does: `consoles` looks, `actions` acts, `transcripts` and `stream`
give the bytes.  `description` makes the OpenAPI document of the same routes.  `docs/api-v1.md` is the reference.
"""

from consoled.api.native.face import Native as Native
