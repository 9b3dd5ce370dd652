"""Attacks on a real triad under load: ``python -m flexcore_testing.chaos`` (``make chaos``).

Real ``flexcore lmgrd`` processes are killed, frozen, cut off, robbed of their disks and lied to by their
clocks while real clients work. Every client keeps books of its own; these are compared with ``lmstat``
at quiet moments and judged at the end: nothing lost, nothing double, nothing over the count.

==================  ======================================================================================
``ground``          where it happens: loopback addresses with a proxy on every link, or network namespaces
``servers``         three servers and what can be done to their processes
``server``          ``lmgrd`` with a clock and a disk that can be hurt (``control``), otherwise as shipped
``load``            the clients (``worker``, ``flexcore run`` around ``child``), and their quiet moments
``book``            what a client writes down; ``audit`` judges all books of a run
``attacks_*``       the attacks, a function each
``conduct``         one attack after the other; ``report`` the table at the end
==================  ======================================================================================
"""
