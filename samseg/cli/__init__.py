"""The `samseg` command.

A command is a module: its docstring says what it does, `EPILOG` shows examples, ``add_arguments(parser)`` declares what
it takes, and ``run(args)`` does it and returns an exit code, None being 0. `samseg.cli.main` has a row for each.

Texts and errors, also those of other rooms, name commands as `samseg NAME`. Modules import what is heavy in ``run``,
once the arguments have proved good.
"""
