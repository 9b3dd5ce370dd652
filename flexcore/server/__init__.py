"""One licence server: connections, quorum, ledger and checkout, and the turn of the loop.

:class:`LicenseServer` takes and gives bytes; transports drive it. :class:`ServerNode` inside it takes
and gives messages; the simulation drives that.
"""

from __future__ import annotations

from .actions import CloseConnection as CloseConnection
from .actions import DialPeer as DialPeer
from .actions import Halt as Halt
from .actions import How as How
from .actions import Persist as Persist
from .actions import ReadLicense as ReadLicense
from .actions import ServerAction as ServerAction
from .actions import SwitchLog as SwitchLog
from .actions import UseDebugLog as UseDebugLog
from .actions import WriteLog as WriteLog
from .actions import WriteReport as WriteReport
from .config import Limits as Limits
from .config import ServerConfig as ServerConfig
from .judgement import LicenseRead as LicenseRead
from .judgement import LicenseRefused as LicenseRefused
from .judgement import judge_license as judge_license
from .license_server import LicenseServer as LicenseServer
from .node import ServerNode as ServerNode
