"""Who may be master, and the log that a master replicates: every rule of mastership, and no bytes.

Begin with :mod:`~flexcore.quorum.promises` and :mod:`~flexcore.quorum.rounds`;
:mod:`~flexcore.quorum.machine` puts it together.
"""

from __future__ import annotations

from flexcore.quorum.config import HardState as HardState
from flexcore.quorum.config import PersistBatch as PersistBatch
from flexcore.quorum.config import QuorumConfig as QuorumConfig
from flexcore.quorum.config import StateError as StateError
from flexcore.quorum.config import StoredState as StoredState
from flexcore.quorum.events import CloseLink as CloseLink
from flexcore.quorum.events import DialFailed as DialFailed
from flexcore.quorum.events import DialPeer as DialPeer
from flexcore.quorum.events import Halt as Halt
from flexcore.quorum.events import LinkEnded as LinkEnded
from flexcore.quorum.events import Notice as Notice
from flexcore.quorum.events import PeerConnected as PeerConnected
from flexcore.quorum.events import PeerFrameReceived as PeerFrameReceived
from flexcore.quorum.events import Persist as Persist
from flexcore.quorum.events import Persisted as Persisted
from flexcore.quorum.events import PersistFailed as PersistFailed
from flexcore.quorum.events import QuorumAction as QuorumAction
from flexcore.quorum.events import QuorumEvent as QuorumEvent
from flexcore.quorum.events import QuorumReport as QuorumReport
from flexcore.quorum.events import SendFrame as SendFrame
from flexcore.quorum.events import StartServing as StartServing
from flexcore.quorum.events import StopRequested as StopRequested
from flexcore.quorum.events import StopServing as StopServing
from flexcore.quorum.machine import QuorumMachine as QuorumMachine
