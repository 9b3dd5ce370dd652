"""One licence server: connections, quorum, ledger and checkout wired together; what transports drive.

:class:`LicenseServer` takes and gives bytes, :class:`ServerNode` messages. Read ``node`` first.
"""

from __future__ import annotations

from .actions import CloseConnection as CloseConnection
from .actions import DialPeer as DialPeer
from .actions import Halt as Halt
from .actions import Persist as Persist
from .actions import ServerAction as ServerAction
from .actions import WriteLog as WriteLog
from .config import Limits as Limits
from .config import ServerConfig as ServerConfig
from .license_server import LicenseServer as LicenseServer
from .node import ServerNode as ServerNode
