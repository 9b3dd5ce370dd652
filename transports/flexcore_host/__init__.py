"""What this machine is (clocks, names, hostids, state folder, log file), and what the clients of all transports share.

Standard library only. Both transports and the tools use it; only ``application`` and ``desk`` know
the client machine, and none knows the protocol.
"""
