"""The doctor of a live model and, in ``database``, that of a registry's database, with one kind of finding."""
