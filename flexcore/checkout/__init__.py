"""The vendor daemon: what is licensed, who may have it, and why not.

:mod:`~flexcore.checkout.rights` are the pools, :mod:`~flexcore.checkout.reading` makes them out of a
licence file, :mod:`~flexcore.checkout.machine` decides requests on the ledger's state.
"""

from __future__ import annotations

from .machine import CheckoutMachine as CheckoutMachine
from .machine import Denial as Denial
from .machine import Grant as Grant
from .machine import Repeat as Repeat
from .machine import Return as Return
from .machine import Verdict as Verdict
from .machine import Withdrawal as Withdrawal
from .reading import read_rights as read_rights
from .rights import Line as Line
from .rights import Pool as Pool
from .rights import Rights as Rights
from .rights import make_rights as make_rights
