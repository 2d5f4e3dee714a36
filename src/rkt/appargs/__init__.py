"""The command lines of ``run``, ``prepare`` and ``run-prepared``: grammar, flags, typed result."""

from __future__ import annotations

from rkt.appargs.flags import FLAGS as FLAGS
from rkt.appargs.flags import PREPARE as PREPARE
from rkt.appargs.flags import RUN as RUN
from rkt.appargs.flags import RUN_PREPARED as RUN_PREPARED
from rkt.appargs.flags import describe as describe
from rkt.appargs.options import AppOptions as AppOptions
from rkt.appargs.options import PodOptions as PodOptions
from rkt.appargs.parser import UsageError as UsageError
from rkt.appargs.parser import parse as parse
