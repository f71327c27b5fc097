"""The whole daemon as its operator meets it: one process, its signals, its files, its log and its exit status.

Everything here is seen from outside, over loopback, through `RunningDaemon`.  The clients (`Viewer`) read only when
they are told to, so that a stall is a stall and nothing is timed.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.daemon import DemoDaemon, Refused, Viewer, eventually, stream

pytestmark = pytest.mark.real
