"""The kinds of consoles: one module for each way to reach a node, and `link`, the one life that all of them share.

A kind is a frozen settings type (what `config` reads) whose `backend()` gives the `Backend` that dials.  To add a
kind: write its module, name its settings in `consoled.config`, test every transition of its life.
"""
