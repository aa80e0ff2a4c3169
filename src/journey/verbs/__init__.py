"""What each verb of the command line does. A function's signature and docstring are its manual."""
