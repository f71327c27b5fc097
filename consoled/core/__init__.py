"""The domain: streams, clients as cursors, consoles, and the seams to everything else.

Nothing in here knows a wire protocol, a file or a face; `seams` says what the core asks of them.
"""
