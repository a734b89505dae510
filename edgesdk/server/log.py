"""The log of the server, by itself: who only writes to it needs no package of the extra `serve`."""

from __future__ import annotations

import logging

LOG = logging.getLogger("edgesdk.server")
