"""consoled: a console concentrator daemon.

It holds one connection to the serial console of every node, keeps every byte that the nodes say, and lets
many people and programs watch or type at once over WebSocket.  `docs/path.md` walks a byte through the code.
"""

__version__ = "0.1.0"
