"""Many models, recipes, targets and devices at once: a plan becomes jobs, jobs become rows of one table.

`plan` is what is asked for, `expand_plan` its cells and their jobs, `carry_out` what a job does, `fleet`
where jobs run, `drive` the one loop, `sweep_table` and `write_report` what comes of it; `run_sweep` is the
verb.
"""
