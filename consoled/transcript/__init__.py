"""The stream on disk: append, rotate, keep within a budget, read by offset, find lines.

From the reactor to the platter: `transcript` queues and numbers the bytes, `scribe` hands a turn's worth of them to one
thread, `segments` puts them into a console's files, with `index` beside them, in the `directory` that holds all.
`reading` finds them again, `retention` decides what goes and `upkeep` lets it go.  `archive` is the front door: the
daemon makes one of it, and the hub asks it for a transcript for each console.
"""
