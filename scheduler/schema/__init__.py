"""Files, flags and request bodies into frozen dataclasses, with errors that name file, line and field."""
