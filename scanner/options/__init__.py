"""Options of the command line, an area to a module: each hands the command one frozen dataclass."""
