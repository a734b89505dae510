"""Scripts that ask one vendor package each, in a process of their own: they may abort, hang or print.

Each is run by `edgesdk.devices.run_probe`, writes its answer with `answer.write_answer`, and may end in any
way.
"""
