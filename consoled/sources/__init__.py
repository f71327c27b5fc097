"""Where consoles come from beside the file: programs, HTTP servers, and CSM's own inventory.

`settings` is what the file says of them, `listing` and `csm` ask, and `keeper` decides what is believed.
"""
