"""Modules behind scripts/make-tiny-models: the small models that ship with the project."""
