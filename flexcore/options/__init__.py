"""Options files: reading them, and the rules that they lay on checkouts.

Read ``vocabulary`` (every keyword), ``rules`` (the values), ``words`` and ``parser`` (text to values),
``patterns`` (whom a rule is about), ``policy`` (what the rules decide), ``reservations`` (the
arithmetic of RESERVE), ``lint`` (what is wrong with a file beside its licence file). Nothing here
changes the redundancy: no option does.
"""

from __future__ import annotations

from .echo import echo_lines as echo_lines
from .lint import lint_options as lint_options
from .parser import parse_options as parse_options
from .patterns import Requester as Requester
from .policy import Holder as Holder
from .policy import Policy as Policy
from .policy import PoolFacts as PoolFacts
from .policy import PoolUse as PoolUse
from .policy import Refusal as Refusal
from .policy import make_policy as make_policy
from .policy import pool_facts as pool_facts
from .rules import AccessRule as AccessRule
from .rules import CountRule as CountRule
from .rules import FeatureNumber as FeatureNumber
from .rules import FeatureSpec as FeatureSpec
from .rules import Group as Group
from .rules import OptionsFile as OptionsFile
from .rules import Rule as Rule
from .rules import Setting as Setting
from .rules import Subject as Subject
from .rules import SubjectType as SubjectType
from .rules import format_options as format_options
from .rules import format_rule as format_rule
from .rules import options_digest as options_digest
