"""What this machine is: clocks, names, hostids, state folder, log file. Standard library only.

Both transports and the tools use it; nothing here knows the protocol.
"""
