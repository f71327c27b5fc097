"""Configurations of other console servers, made into consoled's: the command `consoled-import`.

Pure text to text, beside the daemon: nothing here runs in it.  `conman` and `conserver` read, `draft` is what they
write on, `command` is what the shell calls.
"""
