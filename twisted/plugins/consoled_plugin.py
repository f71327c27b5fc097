"""Names the daemon to twistd.

This folder has no `__init__.py`: it is merged into Twisted's own `twisted.plugins`.
"""

from twisted.application.service import ServiceMaker

consoled = ServiceMaker(
    "consoled",
    "consoled.tap",
    "A console concentrator: holds, keeps and shares the serial consoles of a cluster.",
    "consoled",
)
