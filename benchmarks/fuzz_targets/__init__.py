"""What `fuzz.py` throws odd input at: a module a field, in it `TARGETS`, functions by name.

A target takes a `random.Random`, makes one input from it and calls what a user would call. It returns when
the input was taken, and lets an EdgeError pass when it was refused. Whatever else it raises is a fault, an
AssertionError a wrong answer. Equal seeds make equal inputs; what is costly to make is made once per process.
No target says what it found broken elsewhere: inputs are made from seeds and are nowhere written down.
"""
