"""The triage screen: `imgscan --tui`. Only the command line's `--tui` imports it."""
